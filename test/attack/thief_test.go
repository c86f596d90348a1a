package attack

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

func (w *world) object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: env.Namespace, Name: name}
}

func base32Of(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:26]
}

// joined has a real agent join, and returns its state directory.
func (w *world) joined(id string) string {
	w.Helper()
	dir := filepath.Join(w.Dir, id)
	must(w.T, os.MkdirAll(dir, 0o700))
	state, config, token := filepath.Join(dir, "state"), filepath.Join(dir, "config.yaml"), filepath.Join(dir, "token")
	must(w.T, os.WriteFile(config, fmt.Appendf(nil, "device: %s\nstateDir: %s\n", id, state), 0o600))
	must(w.T, os.WriteFile(token, []byte(w.token("--approve", "auto").String()), 0o600))
	cmd := exec.CommandContext(w.Context(), filepath.Join(w.Bin, "fleet-agent"), "join", "--server", w.ControlPlane.NATS, "--token-file", token)
	cmd.Env = append(os.Environ(), "FLEET_AGENT_CONFIG="+config)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.Fatalf("join: %v\n%s", err, out)
	}
	return state
}

// byThief has the disk of a device, and later no longer the fleet's confidence.
func (w *world) byThief() {
	const id = "stolen"
	state := w.joined(id)
	files, err := filepath.Glob(filepath.Join(state, "*"))
	must(w.T, err)
	operator, err := os.ReadFile(w.OperatorSeed())
	must(w.T, err)
	var identity nkeys.KeyPair
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(w.T, err)
		for what, secret := range map[string]string{"the operator's seed": strings.TrimSpace(string(operator)), "a Secret": password, "a join token": "fleet-join."} {
			if strings.Contains(string(text), secret) {
				w.Errorf("%s holds %s", file, what)
			}
		}
		info, err := os.Stat(file)
		must(w.T, err)
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			w.Errorf("%s has mode %v", file, mode)
		}
		if filepath.Base(file) == "identity.nk" {
			identity, err = nkeys.FromSeed([]byte(strings.TrimSpace(string(text))))
			must(w.T, err)
		}
	}
	if identity == nil {
		w.Fatalf("there is no identity among %v", files)
	}
	public, err := identity.PublicKey()
	must(w.T, err)

	w.vain("has the disk", func(w *world) {
		h := w.connect(id, identity, false)
		for _, subject := range w.others() {
			h.listen(subject, "")
		}
		h.refused("subscription", w.others())
		var all []string
		for subject, data := range w.reachable() {
			h.send(&nats.Msg{Subject: subject, Data: data})
			all = append(all, subject)
		}
		h.refused("publish", all)
	})

	h := w.connect(id, identity, false)
	ended := h.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	d := &v1alpha1.Device{ObjectMeta: w.object(id)}
	start := time.Now()
	// As kubectl fleet revoke does, without the time that a process takes to start.
	must(w.T, w.Client.Patch(w.Context(), d, rawPatch(`{"spec":{"approved":false}}`)))
	select {
	case <-ended:
		w.Logf("from the API server's answer to the device's disconnection: %s", time.Since(start).Round(100*time.Microsecond))
	case <-time.After(limit):
		w.Fatal("the device stays connected")
	}
	w.vain("comes back after it was revoked", func(w *world) {
		for n := range 5 {
			if err := w.dial(nats.Token("device."+id), nats.Nkey(public, identity.Sign)); !errors.Is(err, nats.ErrAuthorization) {
				w.Errorf("attempt %d: %v", n, err)
			}
		}
		if h.IsConnected() {
			w.Error("its old connection is back")
		}
		asks := w.connect(id, identity, true)
		if s := w.ask(asks, public, contracts.JoinRequest{Device: id}); s.Standing != contracts.StandingShutOut {
			w.Errorf("it is told %+v", s)
		}
		// A token that is good does not bring it back.
		s := w.ask(asks, public, w.claim(id, public, w.token("--approve", "auto").String()))
		if s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinShutOut {
			w.Errorf("with a token it is told %+v", s)
		}
	})
	must(w.T, w.Client.Patch(w.Context(), d, rawPatch(`{"spec":{"approved":true}}`)))
	w.until("it may connect again", func(context.Context) error { return w.dial(nats.Token("device."+id), nats.Nkey(public, identity.Sign)) })
	if _, err := w.Kubectl(w.Context(), "device", "reset-key", id, "-n", env.Namespace); err != nil {
		w.Fatal(err)
	}
	w.vain("comes back after its key was reset", func(w *world) {
		w.until("it is not let in", func(context.Context) error {
			if err := w.dial(nats.Token("device."+id), nats.Nkey(public, identity.Sign)); !errors.Is(err, nats.ErrAuthorization) {
				return fmt.Errorf("it is: %w", err)
			}
			return nil
		})
		asks := w.connect(id, identity, true)
		if s := w.ask(asks, public, contracts.JoinRequest{Device: id}); s.Standing != contracts.StandingUnknown {
			w.Errorf("it is told %+v", s)
		}
	})
}

func rawPatch(patch string) client.Patch { return client.RawPatch(types.MergePatchType, []byte(patch)) }
