package health

import (
	"testing"
	"time"

	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestReason(t *testing.T) {
	well := Facts{
		Namespace: "shops", Name: "till-1", Approved: new(true), PublicKey: "A", AgentKey: "A",
		Online: true, LastHeartbeat: time.Unix(1700000000, 0), Interval: 30 * time.Second,
	}
	for name, c := range map[string]struct {
		change        func(*Facts)
		want, message string
	}{
		"heartbeats arrive":                            {func(*Facts) {}, v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s"},
		"an agent that has not said its key is well":   {func(f *Facts) { f.AgentKey = "" }, v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s"},
		"a Device without a key takes any agent":       {func(f *Facts) { f.PublicKey = "" }, v1alpha1.ReasonHeartbeat, "A heartbeat arrives each 30s"},
		"another key":                                  {func(f *Facts) { f.AgentKey = "B" }, v1alpha1.ReasonPublicKeyMismatch, "The agent last connected with the public key B, spec.publicKey is A now: the device is told nothing new until an agent with that key connects"},
		"heartbeats have ceased":                       {func(f *Facts) { f.Online = false }, v1alpha1.ReasonHeartbeatMissed, "Three heartbeats in a row, one each 30s, did not arrive"},
		"gone comes before another key":                {func(f *Facts) { f.Online, f.AgentKey = false, "B" }, v1alpha1.ReasonHeartbeatMissed, "Three heartbeats in a row, one each 30s, did not arrive"},
		"never seen":                                   {func(f *Facts) { f.Online, f.LastHeartbeat = false, time.Time{} }, v1alpha1.ReasonNeverSeen, "The device has never sent a heartbeat"},
		"not approved, whatever arrives":               {func(f *Facts) { f.Approved = nil }, v1alpha1.ReasonNotApproved, "Nobody has approved the device yet: kubectl fleet approve till-1 -n shops"},
		"shut out, whatever arrives":                   {func(f *Facts) { f.Approved = new(false) }, v1alpha1.ReasonShutOut, "spec.approved is false: the device may not connect"},
		"heartbeats are those of whom it is a copy of": {func(f *Facts) { f.Owner, f.Approved = "radio", nil }, v1alpha1.ReasonDuplicateID, "Device radio/till-1 is older and has this ID; delete one of them or give it another name"},
	} {
		t.Run(name, func(t *testing.T) {
			f := well
			c.change(&f)
			if got := f.Reason(); got != c.want || f.Message(got) != c.message {
				t.Errorf("%s: %s; want %s: %s", got, f.Message(got), c.want, c.message)
			}
		})
	}
}
