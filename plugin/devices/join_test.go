package devices

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
)

func TestHeartbeatDecidesWhatItIsAbout(t *testing.T) {
	arrives := live.HeartbeatStatus{Ready: true, IntervalSeconds: 30, LastHeartbeatTime: &metav1.MicroTime{Time: time.Unix(1700000000, 0)}, AgentVersion: "v2"}
	missed, never := arrives, live.HeartbeatStatus{}
	missed.Ready = false
	for name, c := range map[string]struct {
		approved *bool
		written  string
		beat     live.HeartbeatStatus
		want     Health
		words    string
	}{
		"heartbeats have ceased":                 {new(true), v1alpha1.ReasonHeartbeat, missed, NotReady, "HeartbeatMissed"},
		"heartbeats are back":                    {new(true), v1alpha1.ReasonHeartbeatMissed, arrives, Ready, "Ready"},
		"the first heartbeat has come":           {new(true), v1alpha1.ReasonNeverSeen, arrives, Ready, "Ready"},
		"nobody has looked at it yet":            {new(true), "", never, NeverSeen, "NeverSeen"},
		"nobody has approved it yet":             {nil, v1alpha1.ReasonNotApproved, arrives, Pending, "PendingApproval"},
		"shut out is not ready":                  {new(false), v1alpha1.ReasonShutOut, arrives, ShutOut, "ShutOut"},
		"another key is not ready":               {new(true), v1alpha1.ReasonPublicKeyMismatch, arrives, NotReady, "PublicKeyMismatch"},
		"another key whose heartbeats ceased":    {new(true), v1alpha1.ReasonPublicKeyMismatch, missed, NotReady, "HeartbeatMissed"},
		"heartbeats are those of whom it copies": {new(true), v1alpha1.ReasonDuplicateID, arrives, Duplicate, "DuplicateID"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{Approved: c.approved}}
			if c.written != "" {
				status := metav1.ConditionFalse
				if c.written == v1alpha1.ReasonHeartbeat {
					status = metav1.ConditionTrue
				}
				d.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Reason: c.written}}
			}
			Update(d, &live.Heartbeat{Status: c.beat}, nil)
			if got := Of(d); got != c.want || StatusWords(d) != c.words {
				t.Errorf("health %s, status %s; want %s, %s", got, StatusWords(d), c.want, c.words)
			}
			if c.beat.AgentVersion != "" && d.Status.Info.AgentVersion != "v2" || (d.Status.LastHeartbeatTime == nil) != (c.beat.LastHeartbeatTime == nil) {
				t.Errorf("status %+v", d.Status)
			}
		})
	}
}
