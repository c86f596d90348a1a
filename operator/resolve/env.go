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

// environment is the variables of one container in the order of their definition.
type environment struct {
	order  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *environment) lookup(name string) (string, bool) {
	v, ok := e.values[name]
	return v, ok
}

func (e *environment) list() []contracts.EnvVar {
	var out []contracts.EnvVar
	for _, name := range e.order {
		out = append(out, contracts.EnvVar{Name: name, Value: e.values[name]})
	}
	return out
}

// environmentOf resolves the variables of a container: envFrom first, in the
// order of its entries, then env, which wins; $(NAME) sees what came before it.
// A value that was taken from elsewhere is not expanded, as in Kubernetes.
func (t *Template) environmentOf(c *v1alpha1.Container, d Device) (*environment, error) {
	env := &environment{values: map[string]string{}}
	for _, from := range c.EnvFrom {
		by := fmt.Sprintf("container %s, envFrom", c.Name)
		m, err := t.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional, by)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			if name := from.Prefix + key; variableName.MatchString(name) {
				env.set(name, m.Data[key])
			}
		}
	}
	for _, v := range c.Env {
		if v.Value != "" || v.ValueFrom == nil {
			env.set(v.Name, expand(v.Value, env.lookup))
			continue
		}
		switch ref := v.ValueFrom; {
		case ref.FieldRef != nil:
			value, err := field(ref.FieldRef.FieldPath, d)
			if err != nil {
				return nil, invalid("container %s, variable %s: %v", c.Name, v.Name, err)
			}
			env.set(v.Name, value)
		case ref.ConfigMapKeyRef != nil:
			by := fmt.Sprintf("container %s, variable %s", c.Name, v.Name)
			key := ref.ConfigMapKeyRef
			m, err := t.configMap(key.Name, key.Optional, by)
			if err != nil {
				return nil, err
			}
			value, ok := m.Data[key.Key]
			if !ok && !key.Optional {
				return nil, &NotFoundError{Namespace: t.namespace, Name: key.Name, Key: key.Key, By: by}
			}
			if ok {
				env.set(v.Name, value)
			}
		}
	}
	return env, nil
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
