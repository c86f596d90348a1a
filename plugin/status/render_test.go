package status

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleet/plugin/screen"
)

func TestShortScreenBeginsWithWhatIsWrong(t *testing.T) {
	ill := Report{
		Namespace: "shops", Time: metav1.NewTime(time.Unix(1000, 0)), Devices: Devices{Total: 2, Ready: 1, NotReady: 1},
		Problems: []Problem{{Kind: KindDevices, Reason: "NotReady", Message: "1 device gone: heartbeats come no more."}},
	}
	well := Report{Namespace: "shops", Healthy: true, Devices: Devices{Total: 1, Ready: 1}}
	for name, c := range map[string]struct {
		report Report
		lines  int
		first  string
	}{
		"enough lines have the usual order":           {ill, 9, "Deployments"},
		"one line too few has it the other way round": {ill, 8, "What is wrong"},
		"where all is well the order stays":           {well, 2, "Deployments"},
	} {
		t.Run(name, func(t *testing.T) {
			got := RenderWithin(screen.Style{Width: 80}, c.report, Detail{}, c.lines)
			if !strings.HasPrefix(got, c.first) {
				t.Errorf("begins with other than %q:\n%s", c.first, got)
			}
			if usual := Render(screen.Style{Width: 80}, c.report, Detail{}); strings.Count(got, "\n") != strings.Count(usual, "\n") {
				t.Errorf("has another number of lines than the usual screen:\n%s", usual)
			}
		})
	}
}
