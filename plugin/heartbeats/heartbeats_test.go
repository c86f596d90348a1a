package heartbeats

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

func TestLateOnesComeFirst(t *testing.T) {
	now := time.Unix(1700000000, 0)
	beat := func(name string, ready bool, ago time.Duration) *live.Heartbeat {
		return &live.Heartbeat{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: live.HeartbeatStatus{
			Ready: ready, IntervalSeconds: 30, LastHeartbeatTime: &metav1.MicroTime{Time: now.Add(-ago)},
		}}
	}
	list := []*live.Heartbeat{
		beat("in time", true, 29*time.Second),
		beat("on the way", true, 44*time.Second),
		{ObjectMeta: metav1.ObjectMeta{Name: "never"}},
		beat("late", true, 46*time.Second),
		beat("later", true, time.Minute),
		beat("gone long ago", false, time.Hour),
		beat("gone", false, 2*time.Minute),
		beat("ahead", true, -time.Minute),
	}
	slices.SortStableFunc(list, func(a, b *live.Heartbeat) int { return compare(a, b, now) })
	var got []string
	for _, h := range list {
		got = append(got, h.Name)
	}
	if want := []string{"gone", "gone long ago", "later", "late", "never", "in time", "on the way", "ahead"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	if got, want := summary(screen.Style{}, list, now), "8 devices   x 2 gone   ! 2 late   o 1 never seen   + 3 in time"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
}

func TestLatency(t *testing.T) {
	for millis, want := range map[int64]string{0: "0ms", 12: "12ms", -250: "-250ms", 9999: "9999ms", 90_000: "90s", -7_200_000: "-120m"} {
		if got := Latency(millis); got != want {
			t.Errorf("%d ms is %q, want %q", millis, got, want)
		}
	}
}
