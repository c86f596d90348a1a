package podmantest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// slots bounds how many of these podmans run on one machine.
const slots = 64

// allocate finds a free index, from which bridge and subnet follow, and holds the
// machine-wide lock while start runs, so that two processes never choose the same.
func allocate(ctx context.Context, o Options, start func(record) (record, error)) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return err
	}
	for i := range slots {
		rec := record{Index: i, Dir: o.Dir, RunDir: filepath.Join(base, fmt.Sprint(i)), Network: fmt.Sprintf("fleet-%s-%d", o.Name, i),
			Bridge: fmt.Sprintf("fleetpm%d", i), Subnet: o.Subnet, Registries: o.InsecureRegistries, OwnerPID: os.Getpid(), Keep: o.Keep}
		if o.Rootless {
			rec.UID = firstUID + i
		}
		if rec.Subnet == "" {
			rec.Subnet = fmt.Sprintf("10.213.%d.0/24", i)
		}
		if !free(rec) {
			continue
		}
		// Written before the start too: a process that is killed in between leaves a
		// trace for sweep.
		if err := rec.save(); err != nil {
			return err
		}
		rec, err := start(rec)
		if err != nil {
			return err
		}
		return rec.save()
	}
	return errors.New("no bridge name and subnet are free; `ip link` shows the bridges fleetpm…")
}

// free reports whether nobody has the record's slot, bridge and addresses.
func free(rec record) bool {
	if _, err := os.Stat(rec.file()); err == nil {
		return false
	}
	want, err := netip.ParsePrefix(rec.Subnet)
	if err != nil {
		return true // refused with a clear error when the network is written
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, in := range interfaces {
		if in.Name == rec.Bridge {
			return false
		}
		addrs, err := in.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if have, err := netip.ParsePrefix(a.String()); err == nil && have.Overlaps(want) {
				return false
			}
		}
	}
	return true
}

// sweep removes what killed processes left.
func sweep() error {
	files, err := filepath.Glob(filepath.Join(base, "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		rec, err := load(file)
		if err != nil {
			errs = append(errs, err, os.Remove(file))
			continue
		}
		if rec.running() {
			continue
		}
		errs = append(errs, rec.podman().remove())
	}
	return errors.Join(errs...)
}

// Attach finds the podman whose storage is in dir, which another process has
// started, so that it can be used and closed.
func Attach(dir string) (*Podman, error) {
	files, err := filepath.Glob(filepath.Join(base, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		rec, err := load(file)
		if err == nil && rec.Dir == dir {
			return rec.podman(), nil
		}
	}
	return nil, fmt.Errorf("no podman has its storage in %s: %w", dir, os.ErrNotExist)
}
