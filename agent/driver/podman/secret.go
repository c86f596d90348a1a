package podman

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// headerCredentials has registries' credentials for a pull.
// https://docs.podman.io/en/latest/_static/api.html#tag/images/operation/ImagePullLibpod
const headerCredentials = "X-Registry-Config"

// secret is one of podman's for a container: a variable, or a file.
type secret struct {
	contracts.Secret
	// name in podman. Other content has another name, since podman changes none.
	name             string
	variable, target string
	mode             int32
}

// secretsOf are the secrets of a container.
func secretsOf(d *reconcile.Desired, u reconcile.Unit, o Options) (all []secret) {
	add := func(s secret) {
		// Podman keeps a file of one name in a container once, with one mode.
		s.name = secretPrefix(d.Deployment, o) + fingerprint(s.Secret, s.target, s.mode)
		all = append(all, s)
	}
	for _, e := range u.Spec.SecretEnv {
		add(secret{Secret: e.Secret, variable: e.Name})
	}
	for _, m := range u.Spec.Mounts {
		files := d.Volumes[m.Volume].SecretFiles
		if files == nil {
			continue
		}
		for _, f := range *files {
			if target, ok := mounted(m, f.Path); ok {
				add(secret{Secret: f.Secret, target: target, mode: f.Mode})
			}
		}
	}
	return all
}

// mounted is where a file of a volume appears in a container, if it does.
func mounted(m contracts.Mount, file string) (string, bool) {
	file = path.Clean(file)
	if m.SubPath == "" {
		return path.Join(m.Path, file), true
	}
	sub := path.Clean(m.SubPath)
	if file == sub {
		return m.Path, true
	}
	rest, ok := strings.CutPrefix(file, sub+"/")
	return path.Join(m.Path, rest), ok
}

// secretPrefix begins the names of all secrets of a deployment. Neither part has an
// underscore, so no other's begins with it.
func secretPrefix(n contracts.DeploymentName, o Options) string {
	return fmt.Sprintf("fleet_%s_%s_", o.Device, n)
}

func fingerprint(s contracts.Secret, target string, mode int32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%o", s.Name, s.Digest, target, mode))
	return hex.EncodeToString(sum[:16])
}

// provideSecrets makes the secrets of a container that podman does not have. Only for
// these is what was sealed opened: what is there already needs no key.
func (d *Driver) provideSecrets(ctx context.Context, want *reconcile.Desired, u reconcile.Unit) error {
	var opened map[string][]byte
	for _, s := range secretsOf(want, u, d.o) {
		err := d.c.call(ctx, http.MethodGet, "/secrets/"+url.PathEscape(s.name)+"/json", nil, nil, nil)
		if err == nil {
			continue
		}
		if !isStatus(err, http.StatusNotFound) {
			return d.failure("look for a secret", err, reconcile.ReasonSecret)
		}
		if opened == nil {
			if opened, err = d.open(want); err != nil {
				return err
			}
		}
		value, ok := opened[s.Name]
		switch {
		case !ok:
			return secretFailure("secret %s is not among those that are sealed", s.Name)
		case len(value) == 0:
			return secretFailure("secret %s is empty, which podman does not take", s.Name)
		}
		// The error is podman's own and does not repeat the value.
		err = d.c.call(ctx, http.MethodPost, "/secrets/create", url.Values{"name": {s.name}}, raw(value), nil)
		if err != nil && !isCause(err, "secret name in use") {
			return d.failure("make secret "+s.Name, err, reconcile.ReasonSecret)
		}
	}
	return nil
}

func (d *Driver) open(want *reconcile.Desired) (map[string][]byte, error) {
	if want.Sealed == nil || d.o.Open == nil {
		return nil, secretFailure("no secrets were sealed to this device")
	}
	opened, err := d.o.Open(want.Sealed)
	if err != nil {
		return nil, secretFailure("%v", err)
	}
	return opened, nil
}

func secretFailure(format string, args ...any) error {
	return &reconcile.Failure{Reason: reconcile.ReasonSecret, Message: fmt.Sprintf(format, args...)}
}

// removeSecrets removes the secrets of a deployment that no container needs; with want
// nil, all.
func (d *Driver) removeSecrets(ctx context.Context, n contracts.DeploymentName, want *reconcile.Desired) error {
	keep := map[string]bool{}
	if want != nil {
		for _, u := range want.Units {
			for _, s := range secretsOf(want, u, d.o) {
				keep[s.name] = true
			}
		}
	}
	var there []struct {
		ID   string
		Spec struct{ Name string }
	}
	if err := d.c.call(ctx, http.MethodGet, "/secrets/json", nil, nil, &there); err != nil {
		return d.failure("list secrets", err, reconcile.ReasonSecret)
	}
	for _, s := range there {
		if !strings.HasPrefix(s.Spec.Name, secretPrefix(n, d.o)) || keep[s.Spec.Name] {
			continue
		}
		err := d.c.call(ctx, http.MethodDelete, "/secrets/"+url.PathEscape(s.Spec.Name), nil, nil, nil)
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return d.failure("remove a secret", err, reconcile.ReasonSecret)
		}
	}
	return nil
}

// credentials are those of the pull secrets as podman takes them. Of two for one
// registry the first counts, as in Kubernetes.
func (d *Driver) credentials(want *reconcile.Desired) (string, error) {
	opened, err := d.open(want)
	if err != nil {
		return "", err
	}
	type login struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	logins := map[string]login{}
	for _, s := range want.PullSecrets {
		var file struct {
			Auths map[string]struct {
				login
				Auth []byte `json:"auth"`
			} `json:"auths"`
		}
		if err := json.Unmarshal(opened[s.Name], &file); err != nil {
			// Not the error itself: it may have a piece of the credentials.
			return "", secretFailure("pull secret %s is not the JSON of a .docker/config.json", s.Name)
		}
		for registry, a := range file.Auths {
			if _, taken := logins[registry]; taken {
				continue
			}
			l := a.login
			if user, password, ok := strings.Cut(string(a.Auth), ":"); ok {
				l = login{user, password}
			}
			logins[registry] = l
		}
	}
	data, err := json.Marshal(logins)
	if err != nil {
		return "", err
	}
	return base64.URLEncoding.EncodeToString(data), nil
}
