package vm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// host is a KVM host of the test's own, with the network that machines are on.
func host(t *testing.T) (*libvirttest.Daemon, *topology.KVMHost) {
	t.Helper()
	d := libvirttest.Start(t)
	h, err := topology.Local().ConnectKVM(t.Context(), d.URI())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	// With addresses and a bridge that no other test has.
	_, err = d.Dial(t).EnsureNetwork(t.Context(), libvirt.Network{
		Name: vm.DefaultNetwork, Owner: libvirt.Owner{Name: vm.DefaultNetwork}, Mode: libvirt.ModeNAT,
		Bridge: "fleet-vmtest", CIDR: netip.MustParsePrefix("10.215.77.0/24"), DHCP: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, h
}

// image is a disk on which there is nothing to boot: the machine's firmware says so, and
// the machine runs.
func image(t *testing.T, size int) cloudimage.Disk {
	t.Helper()
	data := bytes.Repeat([]byte("nothing to boot."), size/16)
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(data)
	d, err := cloudimage.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Sum = cloudimage.Sum{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
	return d
}

// medium stands for a seed, of which nothing is read here.
func medium(size int) []byte { return bytes.Repeat([]byte("medium\n."), size/8) }

func spec(t *testing.T, d *libvirttest.Daemon, name string) vm.Spec {
	t.Helper()
	return vm.Spec{
		Name: name, Arch: libvirt.HostArch(), CPUs: 1, MemoryBytes: 128 << 20, Image: image(t, 1<<20), Seed: medium(64 << 10), Agent: medium(128 << 10),
		Pool: vm.Pool{Name: "test", Dir: d.PoolDir()}, Network: vm.Network{Name: vm.DefaultNetwork}, Emulate: true,
	}
}

// left are domains and volumes, but for images.
func left(t *testing.T, d *libvirttest.Daemon) []string {
	t.Helper()
	conn := d.Dial(t)
	machines, err := conn.Machines(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range machines {
		all = append(all, m.Name)
	}
	volumes, err := conn.Volumes(t.Context(), "test")
	if err != nil && !errors.Is(err, libvirt.ErrNotFound) {
		t.Fatal(err)
	}
	for _, v := range volumes {
		if !strings.HasPrefix(v.Name, "image-") {
			all = append(all, v.Name)
		}
	}
	return all
}

func TestTheLifeOfAMachine(t *testing.T) {
	d, h := host(t)
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

// TestWhatFailsLeavesNothing has one thing go wrong each time.
func TestWhatFailsLeavesNothing(t *testing.T) {
	d, h := host(t)
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

func TestADomainOfSomebodyElseIsLeftAlone(t *testing.T) {
	d, h := host(t)
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
}

// TestAPoolThatIsFull fills a file system of its own.
func TestAPoolThatIsFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file system of a certain size can be mounted by root alone")
	}
	// Before the daemon, which has its own view of what is mounted.
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no file system of a certain size: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d, h := host(t)
	for name, change := range map[string]func(*vm.Spec){
		"for the image": func(s *vm.Spec) { s.Image = image(t, 8<<20) },
		"for the agent": func(s *vm.Spec) { s.Agent = medium(8 << 20) },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, d, "till-7")
			s.Pool.Dir = small
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

// TestWhatWasLeftOfAMachineIsTakenAway is about one whose maker was killed.
func TestWhatWasLeftOfAMachineIsTakenAway(t *testing.T) {
	d, h := host(t)
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

// TestKVMIsTriedAndNotBelieved boots nothing, so that there is no sign of life: with KVM or
// without, the machine ends up emulated, and that is remembered.
func TestKVMIsTriedAndNotBelieved(t *testing.T) {
	d, h := host(t)
	conn := d.Dial(t)
	facts, err := conn.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guest, err := facts.Guest(facts.Arch)
	if err != nil {
		t.Fatal(err)
	}
	if !guest.KVM {
		t.Skip("libvirt does not claim KVM on this machine, so there is nothing to try")
	}
	s := spec(t, d, "till-7")
	s.Emulate = false
	tried := vm.TriedIn(t.TempDir())
	var said []string
	talk := vm.Talk{Warn: func(format string, _ ...any) { said = append(said, format) }}
	created, err := vm.Create(t.Context(), h, s, vm.Options{Talk: talk, Tried: tried})
	if err != nil {
		t.Fatal(err)
	}
	if !created.Emulated || created.Why == "" || len(said) == 0 {
		t.Errorf("%+v, said %q", created, said)
	}
	if works := tried.Of(t.Context(), h); works == nil || *works {
		t.Errorf("remembered %v", works)
	}
	s = spec(t, d, "till-8")
	s.Emulate = false
	said = nil
	created, err = vm.Create(t.Context(), h, s, vm.Options{Tried: tried, Talk: vm.Talk{Doing: func(format string, _ ...any) { said = append(said, format) }}})
	if err != nil || !created.Emulated || slices.Contains(said, "trying KVM") {
		t.Errorf("the next is tried again: %+v, %v, %q", created, err, said)
	}
}
