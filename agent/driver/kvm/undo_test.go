package kvm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleet/contracts"
)

// A revision with another image never gets healthy: the device goes back to the disk that
// the machine had before, with what is on it.
func TestARevisionThatDoesNotGetHealthyIsUndone(t *testing.T) {
	const other = "other.qcow2"
	w := newWorld(t, "")
	w.upload(image)
	w.upload(other)
	const cidr = "10.248.7.0/24"
	score := till(cidr)
	w.running(w.tell(score))
	before := w.volumes()

	bad := w.tellWithin(till(cidr, func(m *contracts.Machine) {
		m.Disks[0].Image, m.Readiness.HTTP.Port = other, 81
	}), 15)
	s := w.await("rolled back", func(s contracts.DeploymentState) bool {
		return s.Revision == bad && s.Phase == contracts.PhaseRolledBack
	})
	if s.Reason != "ProbeFailed" || !strings.Contains(s.Message, "not healthy within 15s") {
		t.Errorf("the report is %+v", s)
	}
	if applying, ok := w.saw(bad, contracts.PhaseApplying, "Restarting"); !ok || !strings.Contains(applying.Message, "to change: disks, cloudInit") {
		t.Errorf("it was said that %q", applying.Message)
	}
	if said := w.hello(domain); said.Boots["vdb"] < 2 {
		t.Errorf("the guest is %+v", said)
	}
	w.eventually("what the bad revision had is gone", func() bool {
		after := w.volumes()
		slices.Sort(before)
		slices.Sort(after)
		return slices.Equal(before, after)
	})

	t.Run("a disk grows", func(t *testing.T) {
		w := w.in(t)
		w.running(w.tell(till(cidr, func(m *contracts.Machine) { m.Disks[0].SizeBytes = 96 * mib })))
		list, err := w.conn.Volumes(t.Context(), pool)
		must(t, err)
		for _, v := range list {
			if strings.HasPrefix(v.Name, "fleet_till-1_shop_till_root_") && v.Capacity != 96*mib {
				t.Errorf("the disk is %+v", v)
			}
		}
	})
	t.Run("a disk does not shrink, and its machine goes on", func(t *testing.T) {
		w := w.in(t)
		before := w.machine(domain)
		s := w.failed(w.tell(till(cidr, func(m *contracts.Machine) { m.Disks[0].SizeBytes = 80 * mib })), "VolumeFailed")
		if now := w.machine(domain); now.ID != before.ID || !strings.Contains(s.Message, "can't shrink to 80Mi") {
			t.Errorf("it is %+v, and was %+v: %s", now, before, s.Message)
		}
	})
}
