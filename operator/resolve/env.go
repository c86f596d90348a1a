package resolve

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// variableName is what the schema accepts as the name of a variable; a key of a
// ConfigMap that is none is left out by envFrom, as Kubernetes does.
var variableName = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// environment is the variables of one container in the order of their definition. A
// variable is in values or in secrets.
type environment struct {
	order   []string
	values  map[string]string
	secrets map[string]contracts.Secret
	// shown is a secret variable that something in the clear refers to.
	shown string
}

func (e *environment) set(name, value string) {
	e.define(name)
	e.values[name] = value
}

func (e *environment) setSecret(name string, secret contracts.Secret) {
	e.define(name)
	e.secrets[name] = secret
}

func (e *environment) define(name string) {
	_, plain := e.values[name]
	if _, secret := e.secrets[name]; !plain && !secret {
		e.order = append(e.order, name)
	}
	delete(e.values, name)
	delete(e.secrets, name)
}

// lookup is for what $(NAME) is replaced by, which lies on the bus in the clear.
func (e *environment) lookup(name string) (string, bool) {
	if _, ok := e.secrets[name]; ok {
		e.shown = name
	}
	v, ok := e.values[name]
	return v, ok
}

func (e *environment) list() (plain []contracts.EnvVar, secret []contracts.SecretEnvVar) {
	for _, name := range e.order {
		if s, ok := e.secrets[name]; ok {
			secret = append(secret, contracts.SecretEnvVar{Name: name, Secret: s})
			continue
		}
		plain = append(plain, contracts.EnvVar{Name: name, Value: e.values[name]})
	}
	return plain, secret
}

// environmentOf resolves the variables of a container: envFrom first, in the
// order of its entries, then env, which wins; $(NAME) sees what came before it.
// A value that was taken from elsewhere is not expanded, as in Kubernetes.
func (t *Template) environmentOf(c *v1alpha1.Container, d Device) (*environment, error) {
	env := &environment{values: map[string]string{}, secrets: map[string]contracts.Secret{}}
	for i := range c.EnvFrom {
		if err := t.envFrom(env, &c.EnvFrom[i], fmt.Sprintf("container %s, envFrom", c.Name)); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.Value != "" || v.ValueFrom == nil {
			env.set(v.Name, expand(v.Value, env.lookup))
			continue
		}
		if err := t.valueFrom(env, c, v, d); err != nil {
			return nil, err
		}
	}
	return env, nil
}

func (t *Template) envFrom(env *environment, from *v1alpha1.EnvFromSource, by string) error {
	switch {
	case from.ConfigMapRef != nil:
		m, err := t.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional, by)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			if name := from.Prefix + key; variableName.MatchString(name) {
				env.set(name, m.Data[key])
			}
		}
	case from.SecretRef != nil:
		s, err := t.secret(from.SecretRef.Name, from.SecretRef.Optional, by)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(s.Digests)) {
			if name := from.Prefix + key; variableName.MatchString(name) {
				env.setSecret(name, t.use(from.SecretRef.Name, key, s))
			}
		}
	default:
		return invalid("%s: exactly one of configMapRef and secretRef must be set", by)
	}
	return nil
}

func (t *Template) valueFrom(env *environment, c *v1alpha1.Container, v *v1alpha1.EnvVar, d Device) error {
	by := fmt.Sprintf("container %s, variable %s", c.Name, v.Name)
	switch ref := v.ValueFrom; {
	case ref.FieldRef != nil:
		value, err := field(ref.FieldRef.FieldPath, d)
		if err != nil {
			return invalid("%s: %v", by, err)
		}
		env.set(v.Name, value)
	case ref.ConfigMapKeyRef != nil:
		key := ref.ConfigMapKeyRef
		m, err := t.configMap(key.Name, key.Optional, by)
		if err != nil {
			return err
		}
		value, ok := m.Data[key.Key]
		if !ok && !key.Optional {
			return &NotFoundError{Kind: KindConfigMap, Namespace: t.namespace, Name: key.Name, Key: key.Key, By: by}
		}
		if ok {
			env.set(v.Name, value)
		}
	case ref.SecretKeyRef != nil:
		key := ref.SecretKeyRef
		s, err := t.secret(key.Name, key.Optional, by)
		if err != nil {
			return err
		}
		_, ok := s.Digests[key.Key]
		if !ok && !key.Optional {
			return &NotFoundError{Kind: KindSecret, Namespace: t.namespace, Name: key.Name, Key: key.Key, By: by}
		}
		if ok {
			env.setSecret(v.Name, t.use(key.Name, key.Key, s))
		}
	}
	return nil
}

// field takes a field of the device. A label that the device does not have is
// empty, as in Kubernetes.
func field(path string, d Device) (string, error) {
	switch path {
	case "metadata.name":
		return string(d.Name), nil
	case "metadata.namespace":
		return d.Namespace, nil
	}
	if key, ok := labelOf(path); ok {
		return d.Labels[key], nil
	}
	return "", fmt.Errorf("fieldPath %q is none of metadata.name, metadata.namespace and metadata.labels['KEY']", path)
}

func labelOf(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "metadata.labels['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}
