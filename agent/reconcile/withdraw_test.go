package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/contracts"
)

func TestWithdraw(t *testing.T) {
	d := compile(t)
	older := compile(t, func(p *contracts.PodmanScore) { p.Containers[0].Image = "localhost/app:0" })
	mixed := running(d)
	mixed.Pods = append(mixed.Pods, running(older).Pods...)
	all := func(string) bool { return true }
	for name, tt := range map[string]struct {
		observed Observed
		refused  func(string) bool
		want     []Step
	}{
		"what is refused goes":             {running(d), func(u string) bool { return u == "app" }, []Step{{Kind: Remove, Unit: "app", Container: "id-app"}}},
		"all of it goes":                   {running(d), all, []Step{{Kind: Remove, Unit: "app", Container: "id-app"}, {Kind: Remove, Unit: "side", Container: "id-side"}}},
		"what is not refused stays":        {running(d), func(string) bool { return false }, nil},
		"another revision's stays":         {Observed{Pods: running(older).Pods}, func(u string) bool { return u == "app" }, nil},
		"nothing to go":                    {Observed{}, all, nil},
		"only what is of the refused goes": {mixed, func(u string) bool { return u == "app" }, []Step{{Kind: Remove, Unit: "app", Container: "id-app"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Withdraw(d, tt.observed, tt.refused)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
