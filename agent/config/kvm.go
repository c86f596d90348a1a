package config

import (
	"errors"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/provision/libvirt"
)

// KVM is how the agent reaches libvirt, and that it may.
type KVM struct {
	// URI of a libvirtd on this device.
	URI libvirt.URI
	// Pool is the storage pool of images and disks.
	Pool string
	// Emulate has no machine use KVM, where libvirt claims to have it and it does not
	// work.
	Emulate bool
	// Allow is what machines may reach of the device.
	Allow policy.KVM
}

func defaultKVM() *KVM {
	return &KVM{URI: libvirt.MustURI("qemu:///system"), Pool: libvirt.PoolName()}
}

func (k *KVM) fields() fields {
	return fields{
		"uri":     text(func(s string) (err error) { k.URI, err = localURI(s); return err }),
		"pool":    text(func(s string) error { k.Pool = s; return poolName(s) }),
		"emulate": flag(func(is bool) { k.Emulate = is }),
		"allow": fields{
			"bridges": list(func(names []string) error { k.Allow.Bridges = names; return bridges(names) }),
		},
	}
}

func localURI(s string) (libvirt.URI, error) {
	u, err := libvirt.ParseURI(s)
	if err == nil && !u.Local() {
		return u, fmt.Errorf("%q is on another computer, and an agent runs machines on its own device: want qemu:///system", s)
	}
	return u, err
}

var names = regexp.MustCompile(`^[A-Za-z0-9][-._A-Za-z0-9]*$`)

func poolName(s string) error {
	if !names.MatchString(s) {
		return fmt.Errorf("%q is not the name of a storage pool", s)
	}
	return nil
}

func bridges(all []string) error {
	var errs []error
	for _, s := range all {
		if !names.MatchString(s) || len(s) > 15 {
			errs = append(errs, fmt.Errorf("%q is not the name of a bridge", s))
		}
	}
	return errors.Join(errs...)
}

// section is settings that are off unless the file has them, be they empty.
type section struct {
	on     func()
	fields func() fields
}

func (s section) set(path string, node *yaml.Node) []error {
	s.on()
	return s.fields().set(path, node)
}
