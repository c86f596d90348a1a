package kvm

import (
	"errors"
	"strings"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/guest"
)

// TestAMachineIsADevice has a virtual machine made, join, run what Git says, lose its power
// and go on.
func TestAMachineIsADevice(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	disk, err := guest.Debian(ctx, "x86_64")
	must(t, "make an image", err)
	machine := f.AddMachine("vm-1")
	for _, version := range []string{"v2", "v1"} {
		image, err := f.PushHello(ctx, version)
		must(t, "push an image", err)
		if version == "v1" {
			must(t, "scaffold", f.Scaffold(ctx, f.MachineImage(image)))
		}
	}
	// One container is enough for a machine that may be emulated.
	must(t, "edit", f.Repository.Edit(env.Overlay+"/devices.yaml", "    display: attached\n", ""))
	_, err = f.Repository.Push(ctx, "Begin the fleet")
	must(t, "push", err)
	must(t, "sync", f.Sync(ctx))

	must(t, "make the machine", machine.Create(ctx, disk, logged{t}))
	t.Logf("the machine runs %s", machine.How())
	if ok, err := isReady(ctx, f, machine.ID); err != nil || !ok {
		t.Fatalf("the Device is not Ready when kubectl fleet vm create has ended: %v", err)
	}
	must(t, "run what Git says", machine.Serves(ctx, "v1"))
	until(t, f, "hello", "ready", ready)
	out, err := f.Kubectl(ctx, "status", "--namespace", env.Namespace)
	must(t, "status", err)
	t.Logf("kubectl fleet status:\n%s", out)
	for _, part := range []string{"hello", "1/1", "1 ready"} {
		if !strings.Contains(out, part) {
			t.Errorf("kubectl fleet status does not say %q", part)
		}
	}

	delivery, err := f.Deliver(ctx, "v1", "v2")
	must(t, "deliver", err)
	t.Logf("from git push to the machine's container: %s", delivery.Total)

	before := deployment(t, f, "hello")
	must(t, "cut the power", machine.CutPower(ctx))
	if _, err := machine.Greet(ctx); err == nil {
		t.Fatal("it answers without power")
	}
	must(t, "start the machine", machine.Start(ctx, logged{t}))
	must(t, "go on", machine.Serves(ctx, "v2"))
	until(t, f, "hello", "ready", ready)
	if after := deployment(t, f, "hello"); after.Generation != before.Generation || after.Status.UpdateRevision != before.Status.UpdateRevision {
		t.Errorf("the power cut led to another rollout: generation %d and revision %s, before %d and %s",
			after.Generation, after.Status.UpdateRevision, before.Generation, before.Status.UpdateRevision)
	}

	must(t, "delete the machine", machine.Delete(ctx, logged{t}))
	if _, err := f.Libvirt().Machine(ctx, machine.ID); !errors.Is(err, libvirt.ErrNotFound) {
		t.Errorf("the domain is still there: %v", err)
	}
	volumes, err := f.Libvirt().Volumes(ctx, libvirt.PoolName())
	must(t, "list volumes", err)
	for _, v := range volumes {
		if strings.Contains(v.Name, machine.ID) {
			t.Errorf("volume %s is left", v.Name)
		}
	}
}
