package operator_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// signedBy is the key that a value of desired state is signed with.
func (f *fleet) signedBy(d *sim, deployment string) string {
	f.Helper()
	stream, err := f.js.Stream(f.Context(), contracts.BucketDesiredState.Stream())
	must(f.T, err)
	m, err := stream.GetLastMsgForSubject(f.Context(), contracts.BucketDesiredState.Subject(string(d.id)+"."+deployment))
	if err != nil {
		return err.Error()
	}
	e, err := contracts.DecodeEnvelope(m.Data)
	if err != nil {
		return err.Error()
	}
	return e.Key
}

func TestTheOperatorsKeyChangesAndNoWorkloadDoes(t *testing.T) {
	w := &world{config: shared.config, operatorConfig: shared.operatorConfig, kubeconfig: shared.kubeconfig, client: shared.client, seeds: t.TempDir()}
	w.next = pool - 10 // the API server knows the devices of all worlds
	must(t, w.startNATS(filepath.Join(t.TempDir(), "jetstream")))
	t.Cleanup(func() { w.server.Shutdown() })
	f := newFleetOf(t, w, "")
	var answers atomic.Int64
	counted := func(d contracts.DesiredState) *contracts.DeploymentState {
		answers.Add(1)
		return simulated.Running(d)
	}
	here, away := f.device(counted), f.device(counted)
	f.deploy("app", nil)
	f.deploy("gone", nil)
	f.complete("app", 2)
	f.complete("gone", 2)
	before := f.signer
	was := here.Told("app")
	// One device is away when a Deployment goes and the key changes.
	away.Stop()
	must(t, f.client.Delete(t.Context(), f.get("gone")))
	eventually(t, func() string {
		if here.revision("gone") != "" {
			return "it is not withdrawn"
		}
		return ""
	})
	f.stop()
	port := w.server.Addr().(*net.TCPAddr).Port
	w.server.Shutdown()
	w.server.WaitForShutdown()
	must(t, os.Rename(filepath.Join(w.seeds, "operator"), filepath.Join(w.seeds, "before")))
	must(t, w.makeKey("operator"))
	must(t, w.serveNATS(port))
	if f.signer == before {
		t.Fatal("the key has not changed")
	}
	js, err := bus.JetStream(f.connect(t, "operator"))
	must(t, err)
	f.js, f.previous = js, []string{filepath.Join(w.seeds, "before")}
	told := answers.Load()
	f.stop = f.startOperator()
	// Everything is signed anew, withdrawals too.
	for _, d := range []*sim{here, away} {
		for _, name := range []string{"app", "gone"} {
			eventually(t, func() string {
				if by := f.signedBy(d, name); by != f.signer {
					return fmt.Sprintf("%s of %s: %s", name, d.id, by)
				}
				return ""
			})
		}
	}
	f.complete("app", 2)
	if got := here.Told("app"); got.Issued != was.Issued || got.Digest != was.Digest || answers.Load() != told {
		t.Errorf("the device was told %d %s, before %d %s, and answered %d times", got.Issued, got.Digest, was.Issued, was.Digest, answers.Load()-told)
	}
	// The device that trusts the first key obeys the second, whether it was there or not.
	back := f.start(simulated.Options{ID: away.id, Operator: before, Answer: counted})
	f.edit("app", image("2"))
	d := f.complete("app", 2)
	for _, s := range []*sim{here, back} {
		if got := s.revision("app"); got != d.Status.UpdateRevision {
			t.Errorf("%s was told %q", s.id, got)
		}
		if got := s.revision("gone"); got != "" {
			t.Errorf("%s still has %s", s.id, got)
		}
	}
}

func TestWhatSomebodyElseWroteIsToldAnew(t *testing.T) {
	f := newFleet(t)
	d := f.device(simulated.Running)
	f.deploy("app", nil)
	f.complete("app", 1)
	was := d.Told("app")
	// Somebody has the broker: a value that nobody has signed takes the order's place, and
	// then the order itself from before another.
	key := string(d.id) + ".app"
	envelope := f.keys()[key]
	_, err := f.js.Publish(t.Context(), contracts.BucketDesiredState.Subject(key), []byte(strings.Replace(envelope, f.signer, strings.Repeat("O", 56), 1)))
	must(t, err)
	eventually(t, func() string {
		if by := f.signedBy(d, "app"); by != f.signer {
			return "it is signed by " + by
		}
		return ""
	})
	f.edit("app", image("2"))
	f.complete("app", 1)
	newer := d.Told("app")
	if newer.Issued <= was.Issued {
		t.Fatalf("%d follows %d", newer.Issued, was.Issued)
	}
	_, err = f.js.Publish(t.Context(), contracts.BucketDesiredState.Subject(key), []byte(envelope))
	must(t, err)
	// The device says that it has something newer.
	eventually(t, func() string {
		if got := d.Told("app"); got.Issued <= newer.Issued {
			return fmt.Sprintf("it was told nothing since %d", newer.Issued)
		}
		return ""
	})
	f.complete("app", 1)
	if got, want := d.revision("app"), f.get("app").Status.UpdateRevision; got != want {
		t.Errorf("the device has %s, want %s", got, want)
	}
}
