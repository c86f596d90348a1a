package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/contracts"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func score(change ...func(*contracts.PodmanScore)) contracts.DesiredState {
	p := &contracts.PodmanScore{
		RestartPolicy: "Always", StopSeconds: 10,
		Containers: []contracts.Container{
			{Name: "app", Image: "localhost/app:1", PullPolicy: "IfNotPresent", Ports: []contracts.Port{{Container: 8080, Host: 80, Protocol: "TCP"}}},
			{Name: "side", Image: "localhost/side:1", PullPolicy: "IfNotPresent"},
		},
	}
	for _, c := range change {
		c(p)
	}
	s := contracts.ReconcileScore{Podman: p}
	return contracts.DesiredState{Deployment: "web", Revision: "web-1", Digest: s.Digest(), Score: s}
}

func compile(t *testing.T, change ...func(*contracts.PodmanScore)) *Desired {
	t.Helper()
	d, err := Compile(score(change...), Settings{Device: "pi"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// running is the device after everything desired was done.
func running(d *Desired) Observed {
	o := Observed{Images: map[string]bool{}}
	p := Pod{ID: "pod-" + d.PodName, Name: d.PodName, Hash: d.PodHash}
	if !d.HostNetwork {
		p.Infra = &Container{ID: "infra", State: StateRunning}
	}
	for _, u := range d.Units {
		c := Container{ID: "id-" + u.Name, Name: u.ContainerName, Unit: u.Name, Hash: u.Hash, Init: u.Init, State: StateRunning, Started: now.Add(-time.Minute)}
		if u.Init {
			c.State, c.Finished = StateExited, now.Add(-time.Minute)
		}
		p.Containers = append(p.Containers, c)
		o.Images[u.Spec.Image] = true
	}
	o.Pods = []Pod{p}
	return o
}

func withInit(p *contracts.PodmanScore) {
	p.InitContainers = []contracts.Container{{Name: "init", Image: "localhost/app:1", PullPolicy: "IfNotPresent"}}
}

func policy(word string) func(*contracts.PodmanScore) {
	return func(p *contracts.PodmanScore) { p.RestartPolicy = word }
}

func exited(o Observed, unit string, code int32) Observed {
	for i := range o.Pods[0].Containers {
		if c := &o.Pods[0].Containers[i]; c.Unit == unit {
			c.State, c.ExitCode, c.Finished = StateExited, code, now
		}
	}
	return o
}

func TestDecide(t *testing.T) {
	image := func(p *contracts.PodmanScore) { p.Containers[1].Image = "localhost/side:2" }
	port := func(p *contracts.PodmanScore) { p.Containers[0].Ports[0].Host = 81 }
	tests := map[string]struct {
		before []func(*contracts.PodmanScore) // what runs; nil for an empty device
		empty  bool
		change func(Observed) Observed
		want   []func(*contracts.PodmanScore)
		gone   bool
		memory Memory
		steps  string
		wait   string
		wake   time.Duration
		fails  string
		held   string
	}{
		"nothing changed, nothing is done":                    {steps: ""},
		"an empty device pulls before it makes anything":      {empty: true, steps: "pull localhost/app:1, pull localhost/side:1"},
		"with the images there the pod comes up whole":        {empty: true, change: present, steps: "create pod, create app, create side, start network, start app, start side"},
		"a changed image pulls first and touches nothing":     {want: list(image), steps: "pull localhost/side:2"},
		"a changed image replaces its container only":         {want: list(image), change: present, steps: "create side, remove id-side, start side"},
		"a changed port replaces the pod":                     {want: list(port), steps: "create pod, create app, create side, remove pod POD, start network, start app, start side"},
		"an added init container replaces the pod":            {want: list(withInit), steps: "create pod, create init, create app, create side, remove pod POD, start network, start init", wait: "init"},
		"a removed container goes alone":                      {want: list(func(p *contracts.PodmanScore) { p.Containers = p.Containers[:1] }), steps: "remove id-side"},
		"a container that was removed by hand comes back":     {change: without("side"), steps: "create side, start side"},
		"a finished init container that was removed does not": {before: list(withInit), want: list(withInit), change: without("init"), steps: ""},
		"a dead network replaces the pod": {change: func(o Observed) Observed { o.Pods[0].Infra.State = StateExited; return o },
			steps: "remove pod POD, create pod, create app, create side, start network, start app, start side"},
		"a running init container is awaited": {before: list(withInit), want: list(withInit), change: initRunning, wait: "init"},
		"a failed init container is tried again": {before: list(withInit), want: list(withInit), change: func(o Observed) Observed { return exited(created(o), "init", 1) },
			steps: "start init", wait: "init"},
		"a finished init container lets the containers start": {before: list(withInit), want: list(withInit), change: created, steps: "start app, start side"},
		"an ended container starts at once the first time":    {change: func(o Observed) Observed { return exited(o, "app", 0) }, steps: "start app"},
		"a crash loop waits ten seconds": {change: func(o Observed) Observed { return exited(o, "app", 1) },
			memory: Memory{Backoff: map[string]Backoff{"id-app": {Restarts: 1}}}, wake: 10 * time.Second},
		"a long crash loop waits five minutes": {change: func(o Observed) Observed { return exited(o, "app", 1) },
			memory: Memory{Backoff: map[string]Backoff{"id-app": {Restarts: 20}}}, wake: 5 * time.Minute},
		"what someone stopped starts without a pause": {change: func(o Observed) Observed { return exited(o, "app", 0) },
			memory: Memory{Backoff: map[string]Backoff{"id-app": {Restarts: 20}}, ByHand: map[string]bool{"id-app": true}}, steps: "start app"},
		"OnFailure leaves success alone":        {before: list(policy("OnFailure")), want: list(policy("OnFailure")), change: func(o Observed) Observed { return exited(o, "app", 0) }},
		"OnFailure starts after a failure":      {before: list(policy("OnFailure")), want: list(policy("OnFailure")), change: func(o Observed) Observed { return exited(o, "app", 2) }, steps: "start app"},
		"Never fails with the exit code":        {before: list(policy("Never")), want: list(policy("Never")), change: func(o Observed) Observed { return exited(o, "app", 2) }, fails: "exit code 2"},
		"a failed liveness probe ends it":       {memory: Memory{Dead: map[string]bool{"id-app": true}}, steps: "stop app"},
		"a paused container runs on":            {change: func(o Observed) Observed { o.Pods[0].Containers[0].State = StatePaused; return o }, steps: "unpause id-app"},
		"a removed deployment takes all":        {gone: true, steps: "remove pod POD"},
		"a policy of Never does not pull":       {empty: true, want: list(pullPolicy("Never")), fails: "imagePullPolicy is Never"},
		"a policy of Always pulls what is here": {empty: true, want: list(pullPolicy("Always")), change: present, steps: "pull localhost/app:1, pull localhost/side:1"},
		"a policy of Always pulls once": {empty: true, want: list(pullPolicy("Always")), change: present, memory: Memory{Pulled: map[string]bool{"localhost/app:1": true, "localhost/side:1": true}},
			steps: "create pod, create app, create side, start network, start app, start side"},
		"an image that can't be had is waited for":  {want: list(image), memory: failed(time.Minute, "pull localhost/side:2"), held: "pull localhost/side:2", wake: time.Minute},
		"an image that can't be had is tried again": {want: list(image), memory: failed(-time.Second, "pull localhost/side:2"), steps: "pull localhost/side:2"},
		"while it pulls what ended starts again":    {want: list(image), change: func(o Observed) Observed { return exited(o, "app", 1) }, steps: "start app, pull localhost/side:2"},
		"while it pulls the old container goes on":  {want: list(image), change: func(o Observed) Observed { return exited(o, "side", 1) }, steps: "start side, pull localhost/side:2"},
		"while it pulls a crash loop has its pauses": {want: list(image), change: func(o Observed) Observed { return exited(o, "side", 1) },
			memory: Memory{Backoff: map[string]Backoff{"id-side": {Restarts: 1}}}, steps: "pull localhost/side:2", wake: 10 * time.Second},
		"while it pulls a dead old container is ended": {want: list(image), memory: Memory{Dead: map[string]bool{"id-side": true}}, steps: "stop side, pull localhost/side:2"},
		"while it pulls what was removed by hand comes back": {want: list(image), change: func(o Observed) Observed { o = without("app")(o); o.Images["localhost/app:1"] = true; return o },
			steps: "create app, start app, pull localhost/side:2"},
		"while it pulls the old pod goes on": {want: list(image, port), change: func(o Observed) Observed { return exited(o, "app", 1) }, steps: "start app, pull localhost/side:2"},
		"while it pulls the old pod comes back after a reboot": {want: list(image), change: rebooted,
			steps: "start network POD, start app, start side, pull localhost/side:2"},
		"an old pod of another shape comes back after a reboot, but its init containers don't": {before: list(withInit), want: list(image), change: rebooted,
			steps: "start network POD, start app, start side, pull localhost/side:2"},
		"what runs without its network ends before that comes back": {want: list(image), change: func(o Observed) Observed { o.Pods[0].Infra.State = StateExited; return o },
			steps: "stop app, stop side, pull localhost/side:2"},
		"an image that is not here and may not be pulled holds up nothing else": {want: list(image, pullPolicy("Never")), change: func(o Observed) Observed { return exited(o, "app", 1) },
			steps: "start app", fails: "imagePullPolicy is Never"},
		"a step that failed is waited for":       {want: list(image), change: present, memory: failed(time.Minute, "create side"), held: "create side", wake: time.Minute},
		"a step that failed holds up no restart": {want: list(image), change: func(o Observed) Observed { return exited(present(o), "app", 1) }, memory: failed(time.Minute, "create side"), steps: "start app", held: "create side", wake: time.Minute},
		"a start that failed holds up no other":  {change: created, memory: failed(time.Minute, "start app id-app"), steps: "start side", held: "start app id-app", wake: time.Minute},
		"a removal that failed holds up no other": {gone: true, change: func(o Observed) Observed { o.Strays = []Container{{ID: "stray"}}; return o }, memory: failed(time.Minute, "remove stray"),
			steps: "remove pod POD", held: "remove stray", wake: time.Minute},
		"after a reboot a policy of Always pulls": {before: list(pullPolicy("Always")), want: list(pullPolicy("Always")), change: rebooted, memory: Memory{Proven: true},
			steps: "pull localhost/app:1, pull localhost/side:1"},
		"after a reboot without the network what ran before runs": {before: list(pullPolicy("Always")), want: list(pullPolicy("Always")), change: rebooted,
			memory: Memory{Proven: true, Failed: failed(time.Minute, "pull localhost/app:1", "pull localhost/side:1").Failed},
			steps:  "remove pod POD, create pod, create app, create side, start network, start app, start side"},
		"what never ran is not started from an image that may be old": {empty: true, want: list(pullPolicy("Always")), change: present, memory: failed(time.Minute, "pull localhost/app:1", "pull localhost/side:1"),
			held: "pull localhost/app:1", wake: time.Minute},
		"a policy of Always leaves what runs alone": {before: list(pullPolicy("Always")), want: list(pullPolicy("Always"))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := compile(t, tt.before...)
			o := Observed{Images: map[string]bool{}}
			if !tt.empty {
				o = running(before)
			}
			if tt.change != nil {
				o = tt.change(o)
			}
			tt.memory.Now = now
			d := compile(t, tt.want...)
			if tt.gone {
				d = nil
			}
			p := Decide(d, o, tt.memory)
			var got []string
			for _, s := range p.Steps {
				got = append(got, strings.ReplaceAll(s.String(), before.PodName, "POD"))
			}
			if diff := cmp.Diff(tt.steps, strings.Join(got, ", ")); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if held := strings.Join(strings.Fields(p.Held), " "); held != tt.held {
				t.Errorf("held by %q, want %q", held, tt.held)
			}
			if p.Waiting != tt.wait {
				t.Errorf("waits for %q, want %q", p.Waiting, tt.wait)
			}
			if tt.wake != 0 && !p.Wake.Equal(now.Add(tt.wake)) || tt.wake == 0 && !p.Wake.IsZero() {
				t.Errorf("wakes at %s, want %s from %s", p.Wake, tt.wake, now)
			}
			if tt.fails == "" && p.Failure != nil || tt.fails != "" && (p.Failure == nil || !strings.Contains(p.Failure.Message, tt.fails)) {
				t.Errorf("failure %v, want one with %q", p.Failure, tt.fails)
			}
		})
	}
}

func list(f ...func(*contracts.PodmanScore)) []func(*contracts.PodmanScore) { return f }

// failed remembers steps, as their kind and what they are of, that failed and are
// not to be tried again for a while.
func failed(wait time.Duration, steps ...string) Memory {
	m := Memory{Failed: map[string]time.Time{}}
	for _, text := range steps {
		word := strings.Fields(text)
		s := Step{Kind: Kind(word[0])}
		switch s.Kind {
		case Pull:
			s.Image = word[1]
		case Remove:
			s.Container = word[1]
		default:
			s.Unit = word[1]
			if len(word) > 2 {
				s.Container = word[2]
			}
		}
		m.Failed[s.Key()] = now.Add(wait)
	}
	return m
}

// rebooted has everything end at once.
func rebooted(o Observed) Observed {
	for i := range o.Pods[0].Containers {
		c := &o.Pods[0].Containers[i]
		c.State, c.Finished = StateExited, now
	}
	o.Pods[0].Infra.State = StateExited
	for _, image := range []string{"localhost/app:1", "localhost/side:1"} {
		o.Images[image] = true
	}
	return o
}

func pullPolicy(word string) func(*contracts.PodmanScore) {
	return func(p *contracts.PodmanScore) {
		for i := range p.Containers {
			p.Containers[i].PullPolicy = word
		}
	}
}

func present(o Observed) Observed {
	for _, i := range []string{"localhost/app:1", "localhost/side:1", "localhost/side:2"} {
		o.Images[i] = true
	}
	return o
}

func without(unit string) func(Observed) Observed {
	return func(o Observed) Observed {
		var left []Container
		for _, c := range o.Pods[0].Containers {
			if c.Unit != unit {
				left = append(left, c)
			}
		}
		o.Pods[0].Containers = left
		return o
	}
}

// created puts the containers back to before their first start.
func created(o Observed) Observed {
	for i := range o.Pods[0].Containers {
		if c := &o.Pods[0].Containers[i]; c.State == StateRunning {
			c.State = StateCreated
		}
	}
	return o
}

func initRunning(o Observed) Observed {
	o = created(o)
	o.Pods[0].Containers[0].State = StateRunning
	return o
}

func TestCompile(t *testing.T) {
	base := compile(t, withInit)
	tests := map[string]struct {
		change func(*contracts.PodmanScore)
		pod    bool // the pod's hash changes
		app    bool // the container's hash changes
	}{
		"an image changes its container":         {func(p *contracts.PodmanScore) { p.Containers[0].Image = "x" }, false, true},
		"a variable changes its container":       {func(p *contracts.PodmanScore) { p.Containers[0].Env = []contracts.EnvVar{{Name: "A"}} }, false, true},
		"a restart changes every container":      {func(p *contracts.PodmanScore) { p.RestartedAt = "2026-01-02T03:04:05Z" }, true, true},
		"a grace period changes every container": {func(p *contracts.PodmanScore) { p.StopSeconds = 3 }, true, true},
		"another container changes neither":      {func(p *contracts.PodmanScore) { p.Containers[1].Image = "x" }, false, false},
		"a port changes the pod": {func(p *contracts.PodmanScore) {
			p.Containers[1].Ports = []contracts.Port{{Container: 1, Host: 2, Protocol: "TCP"}}
		}, true, false},
		"a port that is not mapped changes nothing": {func(p *contracts.PodmanScore) {
			p.Containers[1].Ports = []contracts.Port{{Container: 1, Protocol: "TCP"}}
		}, false, false},
		"the host's network changes the pod": {func(p *contracts.PodmanScore) { p.HostNetwork = true }, true, false},
		"an init container changes the pod":  {func(p *contracts.PodmanScore) { p.InitContainers[0].Args = []string{"x"} }, true, false},
		"an HTTP probe changes nothing": {func(p *contracts.PodmanScore) {
			p.Containers[0].Readiness = &contracts.Probe{HTTP: &contracts.HTTPProbe{Port: 1}}
		}, false, false},
		"an exec probe changes its container":         {func(p *contracts.PodmanScore) { p.Containers[0].Readiness = &contracts.Probe{Exec: []string{"x"}} }, false, true},
		"a pull policy changes nothing":               {func(p *contracts.PodmanScore) { p.Containers[0].PullPolicy = "Always" }, false, false},
		"a restart policy changes nothing that runs":  {policy("OnFailure"), false, false},
		"a volume that nobody mounts changes nothing": {func(p *contracts.PodmanScore) { p.Volumes = []contracts.Volume{{Name: "v", Claim: "c"}} }, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := compile(t, withInit, tt.change)
			if got := d.PodHash != base.PodHash; got != tt.pod {
				t.Errorf("the pod's hash changed: %t, want %t", got, tt.pod)
			}
			if got := d.Find("app").Hash != base.Find("app").Hash; got != tt.app {
				t.Errorf("the container's hash changed: %t, want %t", got, tt.app)
			}
		})
	}
}

func TestCompileHashesTheFilesThatAContainerMounts(t *testing.T) {
	files := func(text string) func(*contracts.PodmanScore) {
		return func(p *contracts.PodmanScore) {
			p.Volumes = []contracts.Volume{{Name: "v", Files: &[]contracts.File{{Path: "a", Mode: 0o644, Data: []byte(text)}}}}
			p.Containers[0].Mounts = []contracts.Mount{{Volume: "v", Path: "/v", ReadOnly: true}}
		}
	}
	a, b := compile(t, files("1")), compile(t, files("2"))
	if a.Find("app").Hash == b.Find("app").Hash {
		t.Error("the container that mounts a changed file has the same hash")
	}
	if a.Find("side").Hash != b.Find("side").Hash || a.PodHash != b.PodHash {
		t.Error("a changed file changes what does not mount it")
	}
}

func TestCompilePutsTheDevicesAddressOnPorts(t *testing.T) {
	d, err := Compile(score(), Settings{Device: "pi", HostIP: "127.0.0.9"})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Ports[0].HostIP; got != "127.0.0.9" {
		t.Errorf("port is mapped at %q", got)
	}
}
