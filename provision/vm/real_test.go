package vm_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// TestOnARealLibvirt has one libvirtd for all: starting it is what takes longest.
func TestOnARealLibvirt(t *testing.T) {
	// Before the daemon, which has its own view of what is mounted.
	small := smallFileSystem(t)
	d, h := host(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *libvirttest.Daemon, *topology.KVMHost)
	}{
		{"the life of a machine", life},
		{"what fails leaves nothing", failures},
		{"a domain of somebody else is left alone", stranger},
		{"a pool that is full", func(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) { fullPool(t, d, h, small) }},
		{"what was left of a machine is taken away", leftovers},
		{"KVM is tried and not believed", tryKVM},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, d, h)
			clear(t, h)
		})
	}
}

func life(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) {
	ctx := t.Context()
	s := spec(t, d, "till-7")
	created, err := vm.Create(ctx, h, s, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if created.Name != "till-7" || !created.Emulated || created.MAC != vm.MAC("till-7").String() {
		t.Errorf("%+v", created)
	}
	if _, err := vm.Create(ctx, h, s, vm.Options{}); err == nil || !strings.Contains(err.Error(), "kubectl fleet vm delete till-7") {
		t.Errorf("the same again: %v", err)
	}
	if _, err := vm.Create(ctx, h, spec(t, d, "till-8"), vm.Options{}); err != nil {
		t.Errorf("a second of the same image: %v", err)
	}
	machines, err := vm.List(ctx, h)
	if err != nil || len(machines) != 2 || machines[0].Name != "till-7" || machines[0].State != "running" || machines[0].MemoryBytes != 128<<20 {
		t.Errorf("%+v, %v", machines, err)
	}
	for _, step := range []struct {
		name string
		do   func() (bool, error)
		want bool
	}{
		{"what runs is not started again", func() (bool, error) { return vm.Start(ctx, h, "till-7") }, false},
		{"its power is cut", func() (bool, error) { return vm.Stop(ctx, h, "till-7", 0) }, true},
		{"what does not run is not stopped again", func() (bool, error) { return vm.Stop(ctx, h, "till-7", 0) }, false},
		{"it is started", func() (bool, error) { return vm.Start(ctx, h, "till-7") }, true},
	} {
		if changed, err := step.do(); err != nil || changed != step.want {
			t.Errorf("%s: %v, %v", step.name, changed, err)
		}
	}
	gone, err := vm.Delete(ctx, h, "test", "till-7")
	if err != nil || len(gone) != 4 {
		t.Errorf("%q, %v", gone, err)
	}
	if _, err := vm.Delete(ctx, h, "test", "till-7"); !errors.Is(err, libvirt.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := vm.Delete(ctx, h, "test", "till-8"); err != nil {
		t.Error(err)
	}
	if all := left(t, d); len(all) > 0 {
		t.Errorf("left %q", all)
	}
}

// failures has one thing go wrong each time.
func failures(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) {
	for name, tt := range map[string]struct {
		change func(*vm.Spec)
		// at is called when the machine's volumes are there, and its domain is next.
		at   func(cancel context.CancelFunc)
		want string
		is   error
	}{
		"an unknown machine type":      {change: func(s *vm.Spec) { s.Type = "q53" }, want: "q35"},
		"a network that is not there":  {change: func(s *vm.Spec) { s.Network.Name = "nowhere" }, want: "there is no network nowhere"},
		"a disk smaller than an image": {change: func(s *vm.Spec) { s.DiskBytes = 512 << 10 }, want: "is smaller than its image"},
		"an image that has gone":       {change: func(s *vm.Spec) { s.Image.Path += ".gone" }, want: "read image"},
		"an image that is cut short":   {change: func(s *vm.Spec) { s.Image.Size += 512 }, want: "upload"},
		"Ctrl-C in the middle":         {at: func(cancel context.CancelFunc) { cancel() }, is: context.Canceled},
		"libvirtd is restarted":        {at: func(context.CancelFunc) { d.Restart(t) }, is: libvirt.ErrGone},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := spec(t, d, "till-7")
			// Another image each time, so that each has to be uploaded.
			s.Image = image(t, 1<<20+len(name)*512)
			if tt.change != nil {
				tt.change(&s)
			}
			reached := false
			talk := vm.Talk{Warn: func(string, ...any) {
				reached = true
				if tt.at != nil {
					tt.at(cancel)
				}
			}}
			_, err := vm.Create(ctx, h, s, vm.Options{Talk: talk})
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v", err)
			}
			if reached != (tt.at != nil) {
				t.Errorf("it came to the domain: %v", reached)
			}
			if all := left(t, d); len(all) > 0 {
				t.Errorf("left %q after: %v", all, err)
			}
		})
	}
}

func stranger(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) {
	stranger := d.Stranger(t)
	const xml = `<domain type='qemu'><name>till-7</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>`
	if _, err := stranger.DomainDefineXML(xml); err != nil {
		t.Fatal(err)
	}
	s := spec(t, d, "till-7")
	if _, err := vm.Create(t.Context(), h, s, vm.Options{}); !errors.Is(err, libvirt.ErrNotOurs) || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("create: %v", err)
	}
	if _, err := vm.Start(t.Context(), h, "till-7"); !errors.Is(err, libvirt.ErrNotOurs) {
		t.Errorf("start: %v", err)
	}
	if _, err := vm.Stop(t.Context(), h, "till-7", 0); !errors.Is(err, libvirt.ErrNotOurs) {
		t.Errorf("stop: %v", err)
	}
	if _, err := vm.Delete(t.Context(), h, "test", "till-7"); !errors.Is(err, libvirt.ErrNotOurs) {
		t.Errorf("delete: %v", err)
	}
	if machines, err := vm.List(t.Context(), h); err != nil || len(machines) > 0 {
		t.Errorf("list: %v, %v", machines, err)
	}
	if all := left(t, d); !slices.Equal(all, []string{"till-7"}) {
		t.Errorf("left %q", all)
	}
	defined, err := stranger.DomainLookupByName("till-7")
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.DomainUndefine(defined); err != nil {
		t.Error(err)
	}
}

// fullPool fills a file system of its own.
func fullPool(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost, small string) {
	if small == "" {
		t.Skip("no file system of a certain size can be mounted here")
	}
	for name, change := range map[string]func(*vm.Spec){
		"for the image": func(s *vm.Spec) { s.Image = image(t, 8<<20) },
		"for the agent": func(s *vm.Spec) { s.Agent = medium(8 << 20) },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, d, "till-7")
			s.Pool = vm.Pool{Name: "small", Dir: small}
			change(&s)
			if _, err := vm.Create(t.Context(), h, s, vm.Options{}); !errors.Is(err, libvirt.ErrPoolFull) {
				t.Errorf("%v", err)
			}
			if all := left(t, d); len(all) > 0 {
				t.Errorf("left %q", all)
			}
		})
	}
}

// leftovers is about one whose maker was killed.
func leftovers(t *testing.T, d *libvirttest.Daemon, h *topology.KVMHost) {
	s := spec(t, d, "till-7")
	if _, err := vm.Create(t.Context(), h, s, vm.Options{}); err != nil {
		t.Fatal(err)
	}
	conn := d.Dial(t)
	if err := conn.Destroy(t.Context(), "till-7"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Undefine(t.Context(), "till-7"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Create(t.Context(), h, s, vm.Options{}); err == nil || !strings.Contains(err.Error(), "kubectl fleet vm delete till-7 takes it away") {
		t.Errorf("%v", err)
	}
	if gone, err := vm.Delete(t.Context(), h, "test", "till-7"); err != nil || len(gone) != 3 {
		t.Errorf("%q, %v", gone, err)
	}
	if _, err := vm.Create(t.Context(), h, s, vm.Options{}); err != nil {
		t.Error(err)
	}
}
