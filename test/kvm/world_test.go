// Package kvm goes the way of machines with assertions, on a libvirtd and QEMU of its own:
// a virtual machine that is a device of a fleet, and virtual machines that are what a
// device runs.
package kvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/test/env"
)

// limit is how long the fleet may take to settle after whatever was done to it, with
// guests that are emulated.
const limit = 5 * time.Minute

// newFleet brings up a control plane with an operator and a libvirtd for a fleet whose
// devices and machines are yet to come, and takes all of it down when the test ends.
func newFleet(t *testing.T, devices ...string) *env.Fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a libvirtd of its own needs root: run `make test-kvm`")
	}
	for _, tool := range []string{"libvirtd", "qemu-system-x86_64", "mmdebstrap", "grub-mkimage"} {
		if _, err := exec.LookPath(tool); errors.Is(err, exec.ErrNotFound) {
			t.Skipf("%s is not installed: run `make deps-machines`", tool)
		}
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"controlplane", "fleet-operator", "fleet-agent", "kubectl", "kubectl-fleet", "hello"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%s is not built, run `make test-kvm`: %v", name, err)
		}
	}
	// Not t.TempDir: the paths of unix sockets below it would be too long.
	dir, err := os.MkdirTemp("", "fleet-kvm-")
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := env.New(env.Options{Dir: dir, Bin: bin}, devices...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			t.Errorf("take the fleet down: %v", err)
		}
		if t.Failed() {
			t.Logf("the logs stay in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	must(t, "start the control plane", fleet.StartControlPlane(t.Context()))
	must(t, "start libvirt", fleet.StartLibvirt(t.Context()))
	must(t, "install the operator", fleet.InstallOperator(t.Context(), "../../manifests"))
	return fleet
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// deployment reads a Deployment.
func deployment(t *testing.T, f *env.Fleet, name string) *v1alpha1.Deployment {
	t.Helper()
	d := &v1alpha1.Deployment{}
	must(t, "get Deployment "+name, f.Client.Get(t.Context(), client.ObjectKey{Namespace: env.Namespace, Name: name}, d))
	return d
}

// until waits for a state of a Deployment.
func until(t *testing.T, f *env.Fleet, name, what string, check func(*v1alpha1.Deployment) bool) {
	t.Helper()
	must(t, "wait", env.Until(t.Context(), limit, "Deployment "+name+" "+what, func(ctx context.Context) error {
		d := &v1alpha1.Deployment{}
		if err := f.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, d); err != nil {
			return err
		}
		if d.Status.ObservedGeneration != d.Generation || !check(d) {
			return fmt.Errorf("generation %d, status %+v", d.Generation, d.Status)
		}
		return nil
	}))
}

// ready reports whether a Deployment is rolled out to all of its devices.
func ready(d *v1alpha1.Deployment) bool {
	a := d.Status.Aggregate
	return a != nil && a.Matched > 0 && a.Succeeded == a.Matched && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady)
}

// isReady reports whether the Device is.
func isReady(ctx context.Context, f *env.Fleet, name string) (bool, error) {
	d := &v1alpha1.Device{}
	err := f.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: name}, d)
	return meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionReady), err
}

// logged writes what a command says to the test's log, line by line.
type logged struct{ t *testing.T }

func (l logged) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		l.t.Logf("  %s", bytes.TrimRight(line, "\r\n"))
	}
	return len(b), nil
}
