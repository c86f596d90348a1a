package vm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
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
	for _, pool := range []string{"test", "small"} {
		volumes, err := conn.Volumes(t.Context(), pool)
		if err != nil && !errors.Is(err, libvirt.ErrNotFound) {
			t.Fatal(err)
		}
		for _, v := range volumes {
			if !strings.HasPrefix(v.Name, "image-") {
				all = append(all, v.Name)
			}
		}
	}
	return all
}

// clear takes away what a test has left running.
func clear(t *testing.T, h *topology.KVMHost) {
	t.Helper()
	machines, err := vm.List(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		if _, err := vm.Delete(t.Context(), h, "test", m.Name); err != nil {
			t.Error(err)
		}
	}
}

// smallFileSystem is a directory with 4 MiB, "" where that can't be.
func smallFileSystem(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return ""
	}
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Logf("no file system of a certain size: %v", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return small
}
