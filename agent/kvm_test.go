package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

// tellMachine tells the device to run a machine that gets no further than its firmware.
func (w *world) tellMachine(name string) contracts.DesiredState {
	w.Helper()
	s := contracts.ReconcileScore{KVM: &contracts.KVMScore{Machines: []contracts.Machine{{Name: "m", CPUs: 1, MemoryBytes: 64 << 20}}}}
	d := contracts.DesiredState{
		Deployment: contracts.DeploymentName(name), Namespace: "shops", Revision: name + "-" + s.Digest()[:8], Digest: s.Digest(),
		Score: s, DeadlineSeconds: 60, Issued: w.nextIssued(), Time: time.Now().UTC(),
	}
	w.put(d)
	return d
}

func TestADeviceWithoutMachinesSaysSo(t *testing.T) {
	w := newWorld(t)
	s := w.fails(w.tellMachine("web"), "DriverNotAvailable")
	if !strings.Contains(s.Message, "its agent's configuration has no section kvm") {
		t.Errorf("it says %q", s.Message)
	}
}

// A deployment that runs a pod and then a machine, and back, never has both.
func TestADeploymentChangesItsKind(t *testing.T) {
	daemon := libvirttest.Start(t)
	w := newWorld(t)
	w.stop()
	w.config.KVM = &config.KVM{URI: daemon.URI(), Pool: "machines", Emulate: true}
	w.stop = w.run()
	conn := daemon.Dial(t)
	has := func(pods, machines int) {
		t.Helper()
		w.eventually("what the other kind had is gone", func() error {
			list, err := conn.Machines(t.Context())
			if err != nil {
				return err
			}
			found, err := w.podman.Run("pod", "ps", "--quiet")
			if err != nil {
				return err
			}
			if len(list) != machines || len(strings.Fields(string(found))) != pods {
				return fmt.Errorf("there are %d machines and the pods %q", len(list), found)
			}
			return nil
		})
	}
	pod := contracts.PodmanScore{Containers: []contracts.Container{serving("web", 8080, "hello")}}
	w.runs(w.tell("web", pod))
	has(1, 0)
	w.runs(w.tellMachine("web"))
	has(0, 1)
	w.runs(w.tell("web", pod))
	has(1, 0)
	d := w.tellMachine("web")
	w.runs(d)
	has(0, 1)
	before, err := conn.Machine(t.Context(), "fleet_till-1_web_m")
	must(t, err)
	w.restart()
	w.runs(w.tellMachine("web"))
	if now, err := conn.Machine(t.Context(), "fleet_till-1_web_m"); err != nil || now.ID != before.ID {
		t.Errorf("with the agent the machine was restarted: %+v, %v", now, err)
	}
	w.withdraw("web")
	has(0, 0)
}
