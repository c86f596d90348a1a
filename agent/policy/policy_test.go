package policy_test

import (
	"strings"
	"testing"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/contracts"
)

// with is a score of one container that mounts the host path, when there is one.
func with(change func(*contracts.Container), paths ...contracts.HostPath) *contracts.PodmanScore {
	s := &contracts.PodmanScore{Containers: []contracts.Container{{Name: "web"}}}
	for _, p := range paths {
		s.Volumes = append(s.Volumes, contracts.Volume{Name: "v", HostPath: &p})
		s.Containers[0].Mounts = append(s.Containers[0].Mounts, contracts.Mount{Volume: "v", Path: "/v"})
	}
	if change != nil {
		change(&s.Containers[0])
	}
	return s
}

func secured(sec contracts.SecurityContext) *contracts.PodmanScore {
	return with(func(c *contracts.Container) { c.Security = &sec })
}

func port(host int32) *contracts.PodmanScore {
	return with(func(c *contracts.Container) {
		c.Ports = []contracts.Port{{Container: 80, Host: host, Protocol: "TCP"}}
	})
}

func below(dir, sub string) *contracts.PodmanScore {
	return with(func(c *contracts.Container) { c.Mounts[0].SubPath = sub }, contracts.HostPath{Path: dir})
}

func TestCheck(t *testing.T) {
	root := int64(0)
	hostNetwork := port(22)
	hostNetwork.HostNetwork = true
	init := &contracts.PodmanScore{InitContainers: []contracts.Container{{Name: "prepare", Security: &contracts.SecurityContext{Privileged: true}}}}
	unmounted := with(nil, contracts.HostPath{Path: "/etc"})
	unmounted.Containers[0].Mounts = nil
	made := below("/srv", "app")
	made.Volumes[0].HostPath.Create = true
	paths := func(p ...string) policy.Podman { return policy.Podman{HostPaths: p} }
	for name, tt := range map[string]struct {
		allow policy.Podman
		score *contracts.PodmanScore
		want  string // part of the refusal; empty for none
	}{
		"a pod that stays inside is allowed":     {policy.Podman{}, with(nil), ""},
		"no podman score at all":                 {policy.Podman{}, nil, ""},
		"root inside a container is inside":      {policy.Podman{}, secured(contracts.SecurityContext{RunAsUser: &root}), ""},
		"dropping capabilities is allowed":       {policy.Podman{}, secured(contracts.SecurityContext{DropCapabilities: []string{"ALL"}}), ""},
		"privileged is refused":                  {policy.Podman{}, secured(contracts.SecurityContext{Privileged: true}), "container web: securityContext.privileged (it would with podman.allow.privileged: true)"},
		"privileged is refused in an init one":   {policy.Podman{}, init, "container prepare: securityContext.privileged"},
		"privileged is allowed":                  {policy.Podman{Privileged: true}, secured(contracts.SecurityContext{Privileged: true}), ""},
		"the host's network is refused":          {policy.Podman{}, hostNetwork, "does not allow hostNetwork (it would with podman.allow.hostNetwork: true)"},
		"the host's network is allowed":          {policy.Podman{HostNetwork: true}, hostNetwork, ""},
		"a capability is refused":                {policy.Podman{}, secured(contracts.SecurityContext{AddCapabilities: []string{"NET_ADMIN"}}), "container web: capability NET_ADMIN (it would with podman.allow.capabilities: [NET_ADMIN])"},
		"another capability is refused":          {policy.Podman{Capabilities: []string{"NET_RAW"}}, secured(contracts.SecurityContext{AddCapabilities: []string{"NET_ADMIN"}}), "NET_ADMIN"},
		"all capabilities are refused":           {policy.Podman{Capabilities: []string{"NET_ADMIN"}}, secured(contracts.SecurityContext{AddCapabilities: []string{"all"}}), "capability ALL"},
		"a capability is allowed":                {policy.Podman{Capabilities: []string{"NET_ADMIN"}}, secured(contracts.SecurityContext{AddCapabilities: []string{"NET_ADMIN"}}), ""},
		"a capability is allowed as podman does": {policy.Podman{Capabilities: []string{"NET_ADMIN"}}, secured(contracts.SecurityContext{AddCapabilities: []string{"cap_net_admin"}}), ""},
		"every capability is allowed":            {policy.Podman{Capabilities: []string{"ALL"}}, secured(contracts.SecurityContext{AddCapabilities: []string{"SYS_ADMIN", "ALL"}}), ""},
		"a port is refused":                      {policy.Podman{}, port(8080), "container web: hostPort 8080 (it would with podman.allow.hostPorts: [8080])"},
		"a port below the range is refused":      {policy.Podman{HostPorts: []policy.Ports{policy.Unprivileged}}, port(1023), "hostPort 1023"},
		"the first port of the range is allowed": {policy.Podman{HostPorts: []policy.Ports{policy.Unprivileged}}, port(1024), ""},
		"the last port of a range is allowed":    {policy.Podman{HostPorts: []policy.Ports{{1, 2}, {80, 90}}}, port(90), ""},
		"a port of the pod's own is allowed":     {policy.Podman{}, port(0), ""},

		"a path is refused":                              {policy.Podman{}, with(nil, contracts.HostPath{Path: "/etc"}), "container web: host path /etc (it would with podman.allow.hostPaths: [/etc])"},
		"a path is allowed":                              {paths("/srv/app"), with(nil, contracts.HostPath{Path: "/srv/app"}), ""},
		"a path that is written differently is allowed":  {paths("/srv/app"), with(nil, contracts.HostPath{Path: "//srv/./app/"}), ""},
		"a path that only begins like one is refused":    {paths("/srv/app"), with(nil, contracts.HostPath{Path: "/srv/apple"}), "host path /srv/apple"},
		"a path below an allowed one is refused":         {paths("/srv/app"), with(nil, contracts.HostPath{Path: "/srv/app/link"}), "host path /srv/app/link"},
		"a path above an allowed one is refused":         {paths("/srv/app"), with(nil, contracts.HostPath{Path: "/srv"}), "host path /srv "},
		"the root does not allow what is below it":       {paths("/"), with(nil, contracts.HostPath{Path: "/etc"}), "host path /etc"},
		"the root is allowed by itself":                  {paths("/"), with(nil, contracts.HostPath{Path: "/"}), ""},
		"'..' is refused even where it leads back":       {paths("/srv/app"), with(nil, contracts.HostPath{Path: "/srv/app/../app"}), "with '..'"},
		"a subPath below an allowed path is refused":     {paths("/srv"), below("/srv", "app"), "host path /srv/app"},
		"a subPath that leads to a path is allowed":      {paths("/srv/app"), below("/srv", "app"), ""},
		"what is made on the way to a subPath is looked": {paths("/srv/app"), made, "host path /srv "},
		"a volume that nobody mounts is left out":        {policy.Podman{}, unmounted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if r := tt.allow.Check(tt.score); r != nil {
				got = r.Error()
			}
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("refusal %q, want %q", got, tt.want)
			}
		})
	}
}

func TestARefusalNamesEverything(t *testing.T) {
	s := secured(contracts.SecurityContext{Privileged: true, AddCapabilities: []string{"NET_ADMIN"}})
	s.Containers = append(s.Containers, contracts.Container{Name: "calm"})
	r := policy.Podman{}.Check(s)
	const want = "the agent's configuration on this device does not allow " +
		"container web: securityContext.privileged (it would with podman.allow.privileged: true); " +
		"container web: capability NET_ADMIN (it would with podman.allow.capabilities: [NET_ADMIN])"
	if r.Error() != want {
		t.Errorf("%s\nwant\n%s", r, want)
	}
	if !r.Concerns("web") || r.Concerns("calm") {
		t.Errorf("concerns web %t, calm %t", r.Concerns("web"), r.Concerns("calm"))
	}
	s.HostNetwork = true
	if r := (policy.Podman{}).Check(s); !r.Concerns("calm") {
		t.Error("the pod's network does not concern every container")
	}
}
