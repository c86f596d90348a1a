package fleethealth

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	testingclock "k8s.io/utils/clock/testing"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

var present = time.Unix(1_700_000_000, 0).UTC()

// fleet is what the operator has in memory, told as the cluster and the bus tell it.
type fleet struct {
	testing.TB
	roster *roster.Roster
	view   *fleetview.View
}

func newFleet(t testing.TB) *fleet {
	return &fleet{TB: t, roster: roster.New(), view: fleetview.New(fleetview.Options{Clock: testingclock.NewFakeClock(present)})}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (f *fleet) device(namespace, name string, change func(*v1alpha1.Device)) {
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(present.Add(-time.Hour)), Labels: map[string]string{"site": "mtl", "line": name}}}
	d.Spec.Approved = new(true)
	if change != nil {
		change(d)
	}
	f.roster.Set(d)
}

func (f *fleet) beat(name string, ago time.Duration) {
	f.view.Fold(beat(name, ago))
}

func beat(name string, ago time.Duration) bus.Entry {
	return bus.Entry{
		Bucket: contracts.BucketDeviceHeartbeat, Key: contracts.HeartbeatKey(contracts.DeviceID(name)), Time: present.Add(-ago),
		Value: must(contracts.Encode(contracts.HeartbeatPayload{V: contracts.Version, Seq: 1, Time: present.UnixMilli(), Interval: 30})),
	}
}

func (f *fleet) info(name, key string) {
	f.view.Fold(bus.Entry{
		Bucket: contracts.BucketDeviceInfo, Key: contracts.DeviceInfoKey(contracts.DeviceID(name)), Time: present,
		Value: must(contracts.Encode(contracts.DeviceInfo{V: contracts.Version, Device: contracts.DeviceID(name), PublicKey: key, Time: present})),
	})
}

func (f *fleet) of(namespace, selector string) []live.FleetHealth {
	f.Helper()
	return Of(f.roster, f.view, namespace, must(labels.Parse(selector)))
}

func publicKey() string { return must(must(nkeys.CreateUser()).PublicKey()) }

func TestEveryDeviceIsCountedOnceByItsReason(t *testing.T) {
	f := newFleet(t)
	own, other := publicKey(), publicKey()
	keyed := func(d *v1alpha1.Device) { d.Spec.PublicKey = own }
	f.device("shops", "ready", keyed)
	f.info("ready", own)
	f.beat("ready", time.Second)
	f.device("shops", "cordoned", func(d *v1alpha1.Device) { d.Spec.Cordoned = true; d.Labels["site"] = "tor" })
	f.beat("cordoned", time.Second)
	f.device("shops", "mismatch", keyed)
	f.info("mismatch", other)
	f.beat("mismatch", time.Second)
	f.device("shops", "gone", nil)
	f.beat("gone", 2*time.Minute)
	f.device("shops", "new", nil)
	f.device("shops", "applicant", func(d *v1alpha1.Device) { d.Spec.Approved = nil })
	f.beat("applicant", time.Second)
	f.device("shops", "out", func(d *v1alpha1.Device) { d.Spec.Approved = new(false) })
	// Both have it; the one of radio is older.
	f.device("shops", "twice", nil)
	f.device("radio", "twice", func(d *v1alpha1.Device) { d.CreationTimestamp = metav1.NewTime(present.Add(-2 * time.Hour)) })
	f.beat("twice", time.Second)

	gone := []live.GoneDevice{{
		Name: "gone", Reason: v1alpha1.ReasonHeartbeatMissed, Message: "Three heartbeats in a row, one each 30s, did not arrive",
		LastHeartbeatTime: metav1.NewTime(present.Add(-2 * time.Minute)),
	}}
	shops := live.FleetHealthStatus{
		Total: 8, Ready: 2, NotReady: 2, NeverSeen: 1, Pending: 1, ShutOut: 1, Duplicate: 1, Mismatched: 1, Cordoned: 1,
		Gone: gone, Waiting: []string{"new"}, Applicants: []string{"applicant"}, Duplicates: []string{"twice"}, Mismatches: []string{"mismatch"},
	}
	radio := live.FleetHealthStatus{Total: 1, Ready: 1}
	for name, c := range map[string]struct {
		namespace, selector string
		want                map[string]live.FleetHealthStatus
	}{
		"a namespace":                     {"shops", "", map[string]live.FleetHealthStatus{"shops": shops}},
		"all namespaces":                  {"", "", map[string]live.FleetHealthStatus{"radio": radio, "shops": shops}},
		"a selector selects devices":      {"", "site=tor", map[string]live.FleetHealthStatus{"shops": {Total: 1, Ready: 1, Cordoned: 1}}},
		"a selector that selects nothing": {"shops", "site=nowhere", map[string]live.FleetHealthStatus{}},
		"a namespace that there is not":   {"none", "", map[string]live.FleetHealthStatus{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]live.FleetHealthStatus{}
			for _, h := range f.of(c.namespace, c.selector) {
				got[h.Namespace] = h.Status
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestTheFirstFewAreNamed(t *testing.T) {
	f := newFleet(t)
	for n := range 50 {
		n = n * 37 % 50 // in no order
		gone, waiting := fmt.Sprintf("gone-%02d", n), fmt.Sprintf("new-%02d", n)
		f.device("shops", gone, nil)
		// Two of each second.
		f.beat(gone, 10*time.Minute+time.Duration(n/2)*time.Second)
		f.device("shops", waiting, nil)
	}
	s := f.of("shops", "")[0].Status
	var names []string
	for _, g := range s.Gone {
		names = append(names, g.Name)
	}
	if want := []string{"gone-00", "gone-01", "gone-02", "gone-03", "gone-04", "gone-05", "gone-06", "gone-07", "gone-08", "gone-09"}; !slices.Equal(names, want) {
		t.Errorf("gone are %v", names)
	}
	if want := []string{"new-00", "new-01", "new-02"}; !slices.Equal(s.Waiting, want) || s.NotReady != 50 || s.NeverSeen != 50 {
		t.Errorf("it is %+v", s)
	}
}

// BenchmarkOf counts a fleet of 100,000 devices. worst-fold-ms is the longest that a
// heartbeat took to be folded while it was counted without a pause, on top of everything
// else that shares the machine; at least one is folded every 300 µs, as of 100,000 devices
// with a heartbeat every 30 s.
func BenchmarkOf(b *testing.B) {
	const devices = 100_000
	f := newFleet(b)
	for n := range devices {
		name := fmt.Sprintf("device-%06d", n)
		f.device("shops", name, func(d *v1alpha1.Device) {
			if n%100 == 1 {
				d.Labels["site"] = "tor"
			}
		})
		switch {
		case n%50 == 0: // never seen
		case n%20 == 0:
			f.beat(name, time.Duration(n)*time.Second)
		default:
			f.beat(name, time.Second)
		}
	}
	for _, c := range []struct{ name, namespace, selector string }{
		{"namespace", "shops", ""}, {"everywhere", "", ""}, {"selector", "shops", "site=tor"}, {"broad-selector", "shops", "site in (mtl,tor),line!=4"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.of(c.namespace, c.selector)
			}
		})
	}
	b.Run("while-heartbeats-come", func(b *testing.B) {
		stop := make(chan struct{})
		var worst time.Duration
		var folding sync.WaitGroup
		folding.Go(func() {
			entry := beat("device-000001", time.Second)
			for tick := time.NewTicker(300 * time.Microsecond); ; {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				begun := time.Now()
				f.view.Fold(entry)
				worst = max(worst, time.Since(begun))
			}
		})
		for b.Loop() {
			f.of("shops", "")
		}
		close(stop)
		folding.Wait()
		b.ReportMetric(float64(worst.Microseconds())/1000, "worst-fold-ms")
	})
}
