package main

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/guest"
)

// target is how make calls this demo.
func (d *demo) target() string {
	if d.machine {
		return "demo-kvm"
	}
	return "demo"
}

// patience is how long the demo may take. A machine's image is built the first time, and
// the machine may be emulated.
func (d *demo) patience() time.Duration {
	if d.machine {
		return 30 * time.Minute
	}
	return 10 * time.Minute
}

// bringUpMachine brings up a fleet whose only device is a virtual machine.
func (d *demo) bringUpMachine(ctx context.Context, bin string) (err error) {
	if d.fleet, err = env.New(env.Options{Dir: d.dir, Bin: bin}); err != nil {
		return err
	}
	machine := d.fleet.AddMachine("vm-1")
	var disk, image string
	err = d.steps(
		step{"a disk image of Debian, built from its packages once", func() (err error) {
			disk, err = guest.Debian(ctx, "x86_64")
			return err
		}},
		step{"control plane: etcd, kube-apiserver, Flux, NATS, Git, registry", func() error { return d.fleet.StartControlPlane(ctx) }},
		step{"a libvirtd that nobody else uses, with a network for machines", func() error { return d.fleet.StartLibvirt(ctx) }},
		step{"keys, certificates, and the fleet operator with its own rights and no more", func() error { return d.fleet.InstallOperator(ctx, d.manifests) }},
		step{d.images(), func() (err error) {
			image, err = d.pushImages(ctx)
			return err
		}},
		step{"kubectl fleet repo init", func() error { return d.fleet.Scaffold(ctx, d.fleet.MachineImage(image)) }},
		step{"git push", func() error { return d.begin(ctx) }},
		step{"Flux syncs the repository: vm-1 is awaited", func() error { return d.fleet.Sync(ctx) }},
		step{"kubectl fleet vm create vm-1: it boots, joins with a token, and is Ready", func() error {
			return machine.Create(ctx, disk, indented{d.progress})
		}},
		step{"vm-1 serves v1", func() error { return d.fleet.AllServe(ctx, version(1)) }},
	)
	if err != nil {
		return err
	}
	d.progress.Say("The machine runs %s.", machine.How())
	return nil
}

// indented says each line that is written to it, set off from the demo's own.
type indented struct{ progress *env.Progress }

func (i indented) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			i.progress.Say("    %s", text)
		}
	}
	return len(b), nil
}

func (d *demo) sayWhatNextWithMachine() {
	machine := d.fleet.Machines[0]
	address := "ADDRESS"
	if a, err := machine.Address(context.Background()); err == nil {
		address = a.String()
	}
	d.progress.Say(`
%[1]s  export %[2]s
  export LIBVIRT_URI='%[3]s'

Look:    kubectl fleet status -n %[4]s --watch
         kubectl fleet logs -n %[4]s vm-1.hello --follow
         kubectl fleet vm list --connect "$LIBVIRT_URI"
         kubectl fleet vm console vm-1 --connect "$LIBVIRT_URI"
         curl http://%[5]s:%[6]d/
%[7]s
Break:   kubectl fleet vm stop vm-1 --connect "$LIBVIRT_URI"; start it again, and it comes back to what Git says
End:     make demo-down`,
		d.shell(), strings.Join(d.fleet.MachineEnv(), " "), d.fleet.LibvirtURI(), env.Namespace, address, machine.HelloPort, d.change())
}
