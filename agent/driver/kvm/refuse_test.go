package kvm_test

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/nationtech/fleet/agent/driver/kvm"
	"github.com/nationtech/fleet/agent/machines"
	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/libvirt/libvirttest"
)

func TestANameThatIsTakenIsLeftAlone(t *testing.T) {
	w := newWorld(t, "")
	const taken = "fleet_till-1_shop_a"
	w.foreign(taken)
	revision := w.tell(bare("a", "b"))
	if s := w.failed(revision, "NameTaken"); !strings.Contains(s.Message, taken) {
		t.Errorf("it is said that %q", s.Message)
	}
	if b := w.machine("fleet_till-1_shop_b"); b.State != libvirt.StateRunning {
		t.Errorf("the other machine is %+v", b)
	}
	w.removed()
	if all := w.domains(); !slices.Equal(all, []string{taken}) {
		t.Errorf("the machines %v are left, want somebody's", all)
	}
	if s := w.machine(taken); !s.Owner.Zero() || s.State != libvirt.StateShutOff {
		t.Errorf("it is %+v", s)
	}
	// When it is gone, the name is free.
	revision = w.tell(bare("a"))
	w.failed(revision, "NameTaken")
	w.byHand(taken, func(c *rpc.Libvirt, d rpc.Domain) error { return c.DomainUndefine(d) })
	w.running(revision)
}

func TestAnImageThatIsNotThereIsSaid(t *testing.T) {
	w := newWorld(t, "")
	revision := w.tell(till("10.248.3.0/24"))
	s := w.failed(revision, "ImageNotFound")
	for _, want := range []string{"machine till", image, "virsh vol-upload"} {
		if !strings.Contains(s.Message, want) {
			t.Errorf("%q does not say %q", s.Message, want)
		}
	}
	if all := w.domains(); len(all) != 0 {
		t.Errorf("the machines %v were made", all)
	}
	w.upload(image)
	w.worker.Look()
	w.running(revision)
}

func TestAnUnknownMachineTypeIsSaidAndEndsNothing(t *testing.T) {
	w := newWorld(t, "")
	w.running(w.tell(bare("a")))
	before := w.machine("fleet_till-1_shop_a")
	other := bare("a")
	other.Machines[0].Type = "q36"
	if s := w.failed(w.tell(other), "InvalidScore"); !strings.Contains(s.Message, `machine type "q36" is unknown`) || !strings.Contains(s.Message, "q35") {
		t.Errorf("it is said that %q", s.Message)
	}
	if now := w.machine("fleet_till-1_shop_a"); now.ID != before.ID {
		t.Errorf("it was %+v and is %+v", before, now)
	}
}

func TestAPoolThatIsFullIsSaidAndNothingIsHalfMade(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a small file system")
	}
	// Before libvirtd starts, whose mounts are its own from then on.
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=200m"))
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	w := newWorld(t, dir)
	w.upload(image)
	score := till("10.248.4.0/24")
	score.Volumes[0].SizeBytes = 1 << 30
	if s := w.failed(w.tell(score), "PoolFull"); !strings.Contains(s.Message, dir) {
		t.Errorf("it is said that %q", s.Message)
	}
	if slices.Contains(w.volumes(), data) || len(w.domains()) != 0 {
		t.Errorf("there are the volumes %v and the machines %v", w.volumes(), w.domains())
	}
	w.running(w.tell(till("10.248.4.0/24")))
}

func TestSecretUserDataIsSealed(t *testing.T) {
	w := newWorld(t, "")
	w.upload(image)
	score := till("10.248.5.0/24", func(m *contracts.Machine) {
		m.CloudInit = &contracts.CloudInit{SecretUserData: &contracts.Secret{Name: "s/user-data", Digest: strings.Repeat("0", 32)}}
	})
	if s := w.failed(w.tell(score), reconcile.ReasonSecret); !strings.Contains(s.Message, "no secrets were sealed") {
		t.Errorf("it is said that %q", s.Message)
	}
	if len(w.domains()) != 0 {
		t.Errorf("the machines %v were made", w.domains())
	}
}

func TestWithoutLibvirtOrPoolItIsSaid(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	away := kvm.New(kvm.Options{Device: device, URI: libvirt.MustURI("qemu+unix:///system?socket=" + t.TempDir() + "/none"), Pool: pool, Logger: quiet})
	score := till("10.248.6.0/24")
	want, err := machines.Compile(contracts.DesiredState{Deployment: name, Score: contracts.ReconcileScore{KVM: &score}}, device)
	must(t, err)
	_, err = away.Observe(t.Context(), name, want)
	if f, ok := errors.AsType[*reconcile.Failure](err); !ok || f.Reason != reconcile.ReasonNoDriver || !strings.Contains(f.Message, "libvirt does not answer") {
		t.Errorf("without libvirt: %v", err)
	}
	driver := kvm.New(kvm.Options{Device: device, URI: libvirttest.Start(t).URI(), Pool: "none", Logger: quiet})
	t.Cleanup(func() { must(t, driver.Close()) })
	_, err = driver.Observe(t.Context(), name, want)
	if f, ok := errors.AsType[*reconcile.Failure](err); !ok || f.Reason != machines.ReasonPoolNotFound || !strings.Contains(f.Message, "no storage pool none") {
		t.Errorf("without a pool: %v", err)
	}
	if _, err := driver.Observe(t.Context(), name, nil); err != nil {
		t.Errorf("what is not there can't be removed: %v", err)
	}
	version, err := driver.Version(t.Context())
	if err != nil || !strings.HasPrefix(version, "libvirt ") {
		t.Errorf("the version is %q: %v", version, err)
	}
}
