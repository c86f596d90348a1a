package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/contracts"
)

// curve is the key that the device's secrets are sealed to.
func (w *world) curve() string {
	w.Helper()
	w.eventually("the agent has made a curve key", func() error {
		_, err := os.Stat(w.curveFile())
		return err
	})
	pair, err := identity.EnsureCurve(w.config.NATS.SeedFile)
	must(w.T, err)
	key, err := pair.PublicKey()
	must(w.T, err)
	return key
}

func (w *world) curveFile() string {
	return filepath.Join(filepath.Dir(w.config.NATS.SeedFile), "curve.nk")
}

// withSecrets is a pod with one secret as a variable and another as a file.
func withSecrets(name, password string) (contracts.PodmanScore, map[string][]byte) {
	secret := func(slot, value string) contracts.Secret {
		return contracts.Secret{Name: slot, Digest: fmt.Sprintf("%032x", []byte(value)[:16])}
	}
	score := contracts.PodmanScore{
		RestartPolicy: "Always", StopSeconds: 1,
		Containers: []contracts.Container{serving("web", 8093, "")},
		Volumes:    []contracts.Volume{{Name: "creds", SecretFiles: &[]contracts.SecretFile{{Path: "a/password", Mode: 0o440, Secret: secret("creds/password", password)}}}},
	}
	web := &score.Containers[0]
	web.Env = web.Env[:1] // the port; the message is secret
	web.SecretEnv = []contracts.SecretEnvVar{{Name: "MSG", Secret: secret("creds/name", name)}}
	web.Mounts = []contracts.Mount{{Volume: "creds", Path: "/etc/creds"}}
	return score, map[string][]byte{"creds/name": []byte(name), "creds/password": []byte(password)}
}

// tellSealed tells the device a pod whose secrets are sealed to a key.
func (w *world) tellSealed(score contracts.PodmanScore, secrets map[string][]byte, to string) contracts.DesiredState {
	w.Helper()
	sealer, err := contracts.NewSealer()
	must(w.T, err)
	sealed, err := sealer.Seal(secrets, to)
	must(w.T, err)
	s := contracts.ReconcileScore{Podman: &score}
	d := contracts.DesiredState{Deployment: "vault", Namespace: "shops", Revision: "vault-" + s.Digest()[:8], Digest: s.Digest(),
		Score: s, Sealed: sealed, Issued: w.nextIssued()}
	w.put(d)
	return d
}

// found are the files below a folder that have one of the texts.
func found(t *testing.T, dir string, texts ...string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, text := range texts {
			if bytes.Contains(data, []byte(text)) {
				all = append(all, path)
			}
		}
		return err
	}))
	return all
}

func (w *world) secrets() []string {
	w.Helper()
	out, err := w.podman.Run("secret", "ls", "--format", "{{.Name}}")
	must(w.T, err)
	return strings.Fields(string(out))
}

func TestSecrets(t *testing.T) {
	const name, password, changed = "the-name-that-nobody-knows", "the-password-that-nobody-knows", "a-password-that-is-new-to-all"
	w := newWorld(t)
	score, secrets := withSecrets(name, password)
	d := w.tellSealed(score, secrets, w.curve())
	w.runs(d)
	w.serves(8093, "/", name)
	w.serves(8093, "/file?path=/etc/creds/a/password", password)
	if got := w.secrets(); len(got) != 2 {
		t.Errorf("podman has the secrets %v", got)
	}
	ids := w.containers("vault")
	inspect, err := w.podman.Run("inspect", ids["web"])
	must(t, err)
	if bytes.Contains(inspect, []byte(password)) {
		t.Error("inspect shows what is in a file")
	}
	// Neither the broker nor the agent has them on disk, nor the agent's log.
	for _, dir := range []string{w.natsStore, w.config.StateDir} {
		if files := found(t, dir, name, password); len(files) > 0 {
			t.Errorf("in the clear in %v", files)
		}
	}
	if log := w.log.String(); strings.Contains(log, name) || strings.Contains(log, password) {
		t.Error("the log has a secret")
	}

	// Sealed anew to another key, nothing happens, and what is opened later is so with it.
	w.stop()
	must(t, os.Remove(w.curveFile()))
	w.restart()
	d = w.tellSealed(score, secrets, w.curve())
	w.runs(d)
	if got := w.containers("vault"); !maps.Equal(got, ids) {
		t.Errorf("containers %v, before %v", got, ids)
	}

	// What is sealed to somebody else can't run; what ran goes on.
	next, fresh := withSecrets(name, changed)
	stranger, err := nkeys.CreateCurveKeys()
	must(t, err)
	key, err := stranger.PublicKey()
	must(t, err)
	d = w.tellSealed(next, fresh, key)
	w.fails(d, "SecretNotAvailable")
	w.serves(8093, "/file?path=/etc/creds/a/password", password)

	d = w.tellSealed(next, fresh, w.curve())
	w.runs(d)
	w.serves(8093, "/file?path=/etc/creds/a/password", changed)
	w.eventually("the old secret is gone", func() error {
		if got := w.secrets(); len(got) != 2 {
			return fmt.Errorf("podman has %v", got)
		}
		return nil
	})
	if now := w.containers("vault"); now["web"] == ids["web"] {
		t.Error("the container is the one from before")
	}

	// A reboot needs nobody: the secrets are there.
	w.stopNATS()
	w.restart()
	_, err = w.podman.Run("rm", "--force", "--time", "0", w.containers("vault")["web"])
	must(t, err)
	w.serves(8093, "/file?path=/etc/creds/a/password", changed)
	w.startNATS()
	w.eventually("the operator is connected again", func() error {
		if !w.js.Conn().IsConnected() {
			return errors.New("it is not")
		}
		return nil
	})

	w.withdraw("vault")
	w.reports(d, "removed", func(s contracts.DeploymentState) bool { return s.Phase == contracts.PhaseRemoved })
	if got := w.secrets(); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}
