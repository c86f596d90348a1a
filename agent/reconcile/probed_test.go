package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/contracts"
)

func TestRootlessMapsWhatIsProbed(t *testing.T) {
	http := func(port int32) *contracts.Probe {
		return &contracts.Probe{HTTP: &contracts.HTTPProbe{Port: port}, Timeout: 1, Period: 1, SuccessThreshold: 1, FailureThreshold: 1}
	}
	probes := func(p *contracts.PodmanScore) {
		p.Containers[0].Readiness, p.Containers[0].Liveness = http(8080), http(9090)
		p.Containers[1].Startup, p.Containers[1].Readiness = http(9090), &contracts.Probe{Exec: []string{"true"}}
	}
	mapped := contracts.Port{Container: 8080, Host: 80, Protocol: "TCP"}
	extra := contracts.Port{Container: 9090, HostIP: "127.0.0.1", Protocol: "TCP"}
	hostNetwork := func(p *contracts.PodmanScore) { probes(p); p.HostNetwork = true }
	for name, tt := range map[string]struct {
		change   func(*contracts.PodmanScore)
		rootless bool
		want     []contracts.Port
	}{
		"what is probed and not mapped, once": {probes, true, []contracts.Port{mapped, extra}},
		"not for a podman of root's":          {probes, false, []contracts.Port{mapped}},
		"not on the device's own network":     {hostNetwork, true, nil},
		"nothing without probes":              {func(*contracts.PodmanScore) {}, true, []contracts.Port{mapped}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Compile(score(tt.change), Settings{Device: "pi", Rootless: tt.rootless})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, d.Ports); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
