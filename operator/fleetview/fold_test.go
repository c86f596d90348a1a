package fleetview

import (
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

func TestWhatIsMalformedIsToldOfOnceASecondWhoeverItIsOf(t *testing.T) {
	// A key says whose it is as long as the part for the device can be read.
	for name, tt := range map[string]struct {
		entry  bus.Entry
		device contracts.DeviceID
	}{
		"a value":                                  {bus.Entry{Bucket: contracts.BucketDeviceState, Key: "state.a.app", Value: []byte("x")}, "a"},
		"a deployment in a key of a device":        {bus.Entry{Bucket: contracts.BucketDeviceState, Key: "state.a.App"}, "a"},
		"a deployment in a key of the operator":    {bus.Entry{Bucket: contracts.BucketDesiredState, Key: "a.App"}, "a"},
		"a device in a key of a device":            {bus.Entry{Bucket: contracts.BucketDeviceState, Key: "state.A.app"}, ""},
		"a device in the key of its information":   {bus.Entry{Bucket: contracts.BucketDeviceInfo, Key: "info.A"}, ""},
		"a device in the key of a sign of life":    {bus.Entry{Bucket: contracts.BucketDeviceHeartbeat, Key: "heartbeat.A"}, ""},
		"a key that does not begin as it ought to": {bus.Entry{Bucket: contracts.BucketDeviceState, Key: "a.app"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			clock := testingclock.NewFakeClock(time.Unix(1_000_000, 0))
			var told []Malformed
			v := New(Options{Clock: clock, OnMalformed: func(bad Malformed) { told = append(told, bad) }})
			for range 100 {
				v.Fold(tt.entry)
			}
			clock.Step(time.Second)
			v.Fold(tt.entry)
			if len(told) != 2 || told[0].Device != tt.device || told[0].Err == nil {
				t.Errorf("told %d times, want 2: %+v", len(told), told)
			}
			if got := v.Totals().MalformedEntries; got != 101 {
				t.Errorf("%d malformed entries are counted, want 101", got)
			}
		})
	}
}

func TestOneDevicesNonsenseDoesNotHideAnothers(t *testing.T) {
	told := map[contracts.DeviceID]int{}
	v := New(Options{
		Clock:       testingclock.NewFakeClock(time.Unix(1_000_000, 0)),
		OnMalformed: func(bad Malformed) { told[bad.Device]++ },
	})
	for range 10 {
		for _, key := range []string{"state.a.X", "state.b.X", "state.B.x"} {
			v.Fold(bus.Entry{Bucket: contracts.BucketDeviceState, Key: key})
		}
	}
	if len(told) != 3 || told["a"] != 1 || told["b"] != 1 || told[""] != 1 {
		t.Errorf("told %v, want each of them once", told)
	}
}
