package fleetview

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSigner(t *testing.T) *contracts.Signer {
	t.Helper()
	pair, err := nkeys.CreateOperator()
	must(t, err)
	s, err := contracts.NewSigner(pair)
	must(t, err)
	return s
}

// fleet is a View and who writes to its buckets.
type fleet struct {
	*testing.T
	*View
	clock    *testingclock.FakeClock
	sequence uint64
	bad      []Malformed
	score    contracts.ReconcileScore
}

func newFleet(t *testing.T, signer *contracts.Signer, previous ...string) *fleet {
	f := &fleet{T: t, clock: testingclock.NewFakeClock(time.Unix(1_000_000, 0))}
	f.View = New(Options{Clock: f.clock, Signer: signer.Public(), Previous: previous, OnMalformed: func(m Malformed) { f.bad = append(f.bad, m) }})
	f.score = contracts.ReconcileScore{Podman: &contracts.PodmanScore{
		RestartPolicy: "Always", Containers: []contracts.Container{{Name: "app", Image: "app:1", PullPolicy: "Always"}}}}
	return f
}

func (f *fleet) told(by *contracts.Signer, id contracts.DeviceID, issued int64) {
	f.Helper()
	value, err := contracts.Encode(contracts.DesiredState{Deployment: "app", Namespace: "shops", Revision: "app-1", Digest: f.score.Digest(), Score: f.score, Issued: issued})
	must(f.T, err)
	data, err := by.Tell(id, "app", value)
	must(f.T, err)
	f.sequence++
	f.Fold(bus.Entry{Bucket: contracts.BucketDesiredState, Key: string(id) + ".app", Value: data, Sequence: f.sequence, Time: f.clock.Now()})
}

func (f *fleet) withdrawn(by *contracts.Signer, id contracts.DeviceID, issued int64) {
	f.Helper()
	value, err := contracts.Encode(contracts.Withdrawal{Deployment: "app", Issued: issued})
	must(f.T, err)
	data, err := by.Withdraw(id, "app", value)
	must(f.T, err)
	f.sequence++
	f.Fold(bus.Entry{Bucket: contracts.BucketDesiredState, Key: string(id) + ".app", Value: data, Deleted: true, Sequence: f.sequence, Time: f.clock.Now()})
}

func (f *fleet) reports(id contracts.DeviceID, issued int64) {
	f.Helper()
	data, err := contracts.Encode(contracts.DeploymentState{Deployment: "app", Revision: "app-1", Digest: f.score.Digest(), Phase: contracts.PhaseRunning, Issued: issued})
	must(f.T, err)
	f.Fold(bus.Entry{Bucket: contracts.BucketDeviceState, Key: "state." + string(id) + ".app", Value: data, Time: f.clock.Now()})
}

func TestNumbersOnlyEverGrow(t *testing.T) {
	signer := newSigner(t)
	f := newFleet(t, signer)
	first := f.NextIssued()
	if first != f.clock.Now().UnixMicro() {
		t.Errorf("the first is %d, not the time", first)
	}
	// The clock goes back to where a machine without a battery begins.
	f.clock.SetTime(time.Unix(0, 0))
	if next := f.NextIssued(); next != first+1 {
		t.Errorf("after the clock went back: %d, after %d", next, first)
	}
	for name, see := range map[string]func(issued int64){
		"told":      func(issued int64) { f.told(signer, "a", issued) },
		"withdrawn": func(issued int64) { f.withdrawn(signer, "never-seen", issued) },
		"reported":  func(issued int64) { f.told(signer, "b", 1); f.reports("b", issued) },
	} {
		seen := f.NextIssued() + 1000
		see(seen)
		if next := f.NextIssued(); next != seen+1 {
			t.Errorf("%s: %d follows %d", name, next, seen)
		}
	}
	// A device can't use up the numbers that are left.
	f.told(signer, "c", 1)
	f.reports("c", contracts.MaxIssued)
	if next := f.NextIssued(); next > maxReported+1 {
		t.Errorf("a hostile device moves the numbers to %d", next)
	}
}

func TestOrdersThatDoNotCountAnyLongerAreCollected(t *testing.T) {
	signer, before, stranger := newSigner(t), newSigner(t), newSigner(t)
	f := newFleet(t, signer, before.Public())
	outdated := func(want ...Key) {
		t.Helper()
		got := f.Outdated().Take()
		if len(got) != len(want) || len(want) == 1 && got[0] != want[0] {
			t.Errorf("outdated are %v, want %v", got, want)
		}
	}
	f.told(signer, "a", 5)
	f.reports("a", 5)
	outdated()
	// Signed with an earlier key, told or withdrawn.
	f.told(before, "b", 5)
	outdated(Key{"b", "app"})
	f.withdrawn(before, "never-seen", 6)
	outdated(Key{"never-seen", "app"})
	if f.ToldTo("b", "shops") == nil {
		t.Error("what an earlier key has signed was not told")
	}
	// The device was given something newer, whichever is seen first.
	f.reports("a", 9)
	outdated(Key{"a", "app"})
	order := func(issued int64, revision string) contracts.Order {
		return contracts.Order{Issued: issued, Desired: &contracts.DesiredState{Revision: revision, Digest: f.score.Digest()}}
	}
	if stale, same := f.Stale(Key{"a", "app"}, order(5, "app-1")); !stale || !same {
		t.Error("it is not known how stale it is")
	}
	if stale, same := f.Stale(Key{"a", "app"}, order(5, "app-0")); !stale || same {
		t.Error("another order passes for the one that the device has")
	}
	if stale, _ := f.Stale(Key{"a", "app"}, order(9, "app-0")); stale {
		t.Error("what the device has is stale")
	}
	f.reports("c", 9)
	f.told(signer, "c", 8)
	outdated(Key{"c", "app"})
	f.told(signer, "c", 10)
	outdated()
	// What a stranger has signed was told by nobody, and is never signed again.
	f.told(stranger, "a", 99)
	outdated()
	if told := f.ToldTo("a", "shops"); told != nil {
		t.Errorf("a stranger has told %v", told)
	}
	var untrusted *contracts.UntrustedKeyError
	if len(f.bad) != 1 || !errors.As(f.bad[0].Err, &untrusted) || f.bad[0].Device != "a" {
		t.Errorf("malformed: %+v", f.bad)
	}
	if got := f.Untold("a"); len(got) != 1 {
		t.Errorf("what the device has and was told by nobody: %v", got)
	}
}
