package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/test/env"
	"github.com/nationtech/fleet/test/guest"
	"github.com/nationtech/fleet/test/guest/tiny"
)

// till is a Deployment of one machine with a network and a disk for data.
const till = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: till
spec:
  targetSelector:
    matchLabels:
      fleet: shops
  score:
    kvm:
      networks:
      - name: lan
        cidr: %s
      volumes:
      - name: sales
        size: 16Mi
      machines:
      - name: pos
        cpus: 1
        memory: 128Mi
        maxMemory: 256Mi
        disks:
        - name: root
          image: tiny.qcow2
        - name: sales
          volume: sales
        interfaces:
        - name: lan
          network: lan
        cloudInit:
          userData: "#cloud-config"
        readinessProbe:
          httpGet:
            port: 80
          periodSeconds: 1
        terminationGracePeriodSeconds: 20
`

// TestADeviceRunsMachines has a device run a virtual machine that Git says, and goes on
// through what happens to it.
func TestADeviceRunsMachines(t *testing.T) {
	f := newFleet(t, "shop-1")
	ctx := t.Context()
	f.Devices[0].Pool = libvirt.DefaultPool
	addImage(t, f, libvirt.DefaultPool, "tiny.qcow2")
	image, err := f.PushHello(ctx, "v1")
	must(t, "push an image", err)
	must(t, "scaffold", f.Scaffold(ctx, image))
	must(t, "edit", f.Repository.Edit(env.Overlay+"/kustomization.yaml", "- devices.yaml\n", "- devices.yaml\n- till.yaml\n"))
	must(t, "write", f.Repository.Write(env.Overlay+"/till.yaml", fmt.Sprintf(till, f.SpareSubnet())))
	push := func(message string) {
		t.Helper()
		_, err := f.Repository.Push(ctx, message)
		must(t, "push", err)
	}
	push("Begin the fleet")
	must(t, "sync", f.Sync(ctx))
	must(t, "have the device join", f.JoinDevices(ctx))

	until(t, f, "till", "ready", ready)
	pos := &machine{t: t, fleet: f}
	began := pos.hello("answers", func(tiny.Hello) error { return nil })
	t.Logf("the device's machine runs %s", how(t, f))
	if began.Hostname != "shop-1-pos" || began.Boots["vdb"] != 1 {
		t.Errorf("the machine says %+v, want the host name shop-1-pos, and a disk for data that it has booted with once", began)
	}

	must(t, "destroy the machine by hand", f.Libvirt().Destroy(ctx, pos.status().Name))
	again := pos.hello("is back with its data", func(h tiny.Hello) error {
		if h.BootID == began.BootID || h.Boots["vdb"] != 2 {
			return fmt.Errorf("it says %+v", h)
		}
		return nil
	})
	until(t, f, "till", "counts the drift", func(d *v1alpha1.Deployment) bool { return ready(d) && d.Status.Aggregate.Drifted == 1 })

	must(t, "edit", f.Repository.Edit(env.Overlay+"/till.yaml", "memory: 128Mi", "memory: 192Mi"))
	push("Give the till more memory")
	must(t, "wait", env.Until(ctx, limit, "the machine has the memory", func(context.Context) error {
		if got := pos.status().MemoryBytes; got != 192<<20 {
			return fmt.Errorf("it has %d bytes", got)
		}
		return nil
	}))
	until(t, f, "till", "ready", ready)
	pos.hello("has not been restarted for it", func(h tiny.Hello) error {
		if h.BootID != again.BootID {
			return env.Permanent(errors.New("it was"))
		}
		return nil
	})

	must(t, "remove", f.Repository.Remove(env.Overlay+"/till.yaml"))
	must(t, "edit", f.Repository.Edit(env.Overlay+"/kustomization.yaml", "- till.yaml\n", ""))
	push("Close the till")
	must(t, "wait", env.Until(ctx, limit, "the machine is gone with its disks, and not the disk for data", func(ctx context.Context) error {
		all, err := f.Libvirt().Machines(ctx)
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("there are %+v", all)
		}
		if err != nil {
			return err
		}
		volumes, err := f.Libvirt().Volumes(ctx, libvirt.DefaultPool)
		if err != nil {
			return err
		}
		var left []string
		for _, v := range volumes {
			left = append(left, v.Name)
		}
		if slices.Sort(left); !slices.Equal(left, []string{"fleet_shop-1_till_sales.qcow2", "tiny.qcow2"}) {
			return fmt.Errorf("the pool has %v", left)
		}
		return nil
	}))
}

// addImage puts the tiny guest's image into a pool.
func addImage(t *testing.T, f *env.Fleet, pool, name string) {
	t.Helper()
	path, err := guest.TinyImage(t.Context())
	must(t, "make an image", err)
	dir := filepath.Join(f.Dir, "pool")
	must(t, "make a folder", os.MkdirAll(dir, 0o755))
	must(t, "make a pool", f.Libvirt().EnsurePool(t.Context(), pool, dir))
	image, err := os.Open(path)
	must(t, "open the image", err)
	defer image.Close()
	info, err := image.Stat()
	must(t, "look at the image", err)
	must(t, "upload the image", f.Libvirt().Upload(t.Context(), pool, name, "qcow2", info.Size(), image))
}

// how says whether a guest that has answered was booted by KVM: a device takes it where
// libvirt claims it.
func how(t *testing.T, f *env.Fleet) string {
	t.Helper()
	host, err := f.Libvirt().Host(t.Context())
	must(t, "look at the host", err)
	kind, err := host.Guest(libvirt.HostArch())
	must(t, "look at the host's emulators", err)
	if kind.KVM {
		return "with KVM, which has booted it"
	}
	return "emulated: libvirt has no KVM here"
}

// machine is the only one of the device.
type machine struct {
	t     *testing.T
	fleet *env.Fleet
}

func (m *machine) status() libvirt.MachineStatus {
	m.t.Helper()
	all, err := m.fleet.Libvirt().Machines(m.t.Context())
	must(m.t, "list machines", err)
	if len(all) != 1 {
		m.t.Fatalf("there are %d machines, want one: %+v", len(all), all)
	}
	return all[0]
}

// hello asks the machine until what it says is right.
func (m *machine) hello(what string, right func(tiny.Hello) error) tiny.Hello {
	m.t.Helper()
	var last tiny.Hello
	must(m.t, "wait", env.Until(m.t.Context(), limit, "the machine "+what, func(ctx context.Context) error {
		addresses, err := m.fleet.Libvirt().Addresses(ctx, m.status().Name)
		if err != nil {
			return err
		}
		if len(addresses) == 0 {
			return errors.New("it has no address")
		}
		if last, err = guest.Ask(ctx, addresses[0].String()); err != nil {
			return err
		}
		return right(last)
	}))
	return last
}
