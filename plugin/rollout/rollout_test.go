package rollout

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/screen"
)

// seen is a Deployment of which the operator has seen a wave in a phase.
func seen(phase v1alpha1.WavePhase, ready metav1.ConditionStatus, reason string) *v1alpha1.Deployment {
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: "web", Generation: 3}}
	d.Spec.Rollout.Waves = []v1alpha1.Wave{{Name: "canary"}, {Name: "shops", Approval: v1alpha1.ApprovalManual}}
	d.Status = v1alpha1.DeploymentStatus{
		ObservedGeneration: 3, CurrentRevision: "web-a", UpdateRevision: "web-b",
		Wave:       &v1alpha1.WaveStatus{Name: "canary", Index: 1, Of: 3, Phase: phase},
		Conditions: []metav1.Condition{{Type: "Ready", Status: ready, Reason: reason, Message: "The message"}},
	}
	return d
}

func stalled(phase v1alpha1.WavePhase, reason string) *v1alpha1.Deployment {
	d := seen(phase, "False", reason)
	d.Status.Conditions = append(d.Status.Conditions, metav1.Condition{Type: "Stalled", Status: "True", Reason: reason, Message: "The message"})
	return d
}

func with(d *v1alpha1.Deployment, change func(*v1alpha1.Deployment)) *v1alpha1.Deployment {
	change(d)
	return d
}

func TestStates(t *testing.T) {
	rollback := func(d *v1alpha1.Deployment) { d.Spec.Rollout.OnFailure = v1alpha1.OnFailureRollback }
	for name, c := range map[string]struct {
		d     *v1alpha1.Deployment
		state State
		done  bool
		code  int
	}{
		"every device runs it":       {seen(v1alpha1.WaveComplete, "True", v1alpha1.ReasonRolloutComplete), Complete, true, 0},
		"devices are on their way":   {seen(v1alpha1.WaveProgressing, "False", v1alpha1.ReasonProgressing), Progressing, false, 2},
		"a wave soaks":               {seen(v1alpha1.WaveSoaking, "False", v1alpha1.ReasonSoaking), Soaking, false, 2},
		"a wave waits for somebody":  {seen(v1alpha1.WaveAwaitingApproval, "False", v1alpha1.ReasonAwaitingApproval), AwaitingApproval, false, 2},
		"it is halted":               {stalled(v1alpha1.WaveHalted, v1alpha1.ReasonDevicesFailed), Halted, true, 1},
		"halted by silence":          {stalled(v1alpha1.WaveHalted, v1alpha1.ReasonProgressDeadlineExceeded), Halted, true, 1},
		"a halt that is rolled back": {with(stalled(v1alpha1.WaveHalted, v1alpha1.ReasonDevicesFailed), rollback), Halted, false, 1},
		"a halt with nothing to go back to": {with(stalled(v1alpha1.WaveHalted, v1alpha1.ReasonDevicesFailed), func(d *v1alpha1.Deployment) {
			rollback(d)
			d.Status.CurrentRevision = ""
		}), Halted, true, 1},
		"devices go back":                      {stalled(v1alpha1.WaveRollingBack, v1alpha1.ReasonRollingBack), RollingBack, false, 1},
		"they have gone back":                  {stalled(v1alpha1.WaveRolledBack, v1alpha1.ReasonRolledBack), RolledBack, true, 1},
		"failing devices are all that is left": {stalled(v1alpha1.WaveStalled, v1alpha1.ReasonDevicesFailed), Stalled, true, 1},
		"an invalid spec after a halt":         {stalled(v1alpha1.WaveHalted, v1alpha1.ReasonInvalidSpec), Stalled, true, 1},
		"a new spec after a halt": {with(stalled(v1alpha1.WaveHalted, v1alpha1.ReasonDevicesFailed), func(d *v1alpha1.Deployment) {
			d.Generation = 4
		}), Waiting, false, 2},
		"paused while it soaks": {with(seen(v1alpha1.WavePaused, "False", v1alpha1.ReasonPaused), func(d *v1alpha1.Deployment) {
			d.Spec.Paused = true
		}), Paused, false, 2},
		"suspended": {with(seen(v1alpha1.WaveHalted, "False", v1alpha1.ReasonSuspended), func(d *v1alpha1.Deployment) {
			d.Spec.Suspend = true
		}), Suspended, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := Observe(c.d)
			if r.State != c.state || r.Done() != c.done || r.exitCode() != c.code {
				t.Errorf("state %s, done %t, code %d; want %s, %t, %d", r.State, r.Done(), r.exitCode(), c.state, c.done, c.code)
			}
			if c.state != Complete && r.Why == "" {
				t.Error("it does not say why")
			}
		})
	}
}

func TestWaveToApprove(t *testing.T) {
	waiting := func() *v1alpha1.Deployment {
		return with(seen(v1alpha1.WaveAwaitingApproval, "False", v1alpha1.ReasonAwaitingApproval), func(d *v1alpha1.Deployment) {
			d.Status.Wave.Name, d.Status.Wave.Index = "shops", 2
		})
	}
	soaking := func() *v1alpha1.Deployment { return seen(v1alpha1.WaveSoaking, "False", v1alpha1.ReasonSoaking) }
	for name, c := range map[string]struct {
		d           *v1alpha1.Deployment
		asked, wave string
		refused     string
	}{
		"the one that waits":              {waiting(), "", "shops", ""},
		"by its name":                     {waiting(), "shops", "shops", ""},
		"ahead":                           {soaking(), "shops", "shops", ""},
		"none waits":                      {soaking(), "", "", "the rollout is soaking; --wave approves ahead: shops"},
		"an unknown one":                  {waiting(), "shop", "", "has no wave shop, its waves are: canary, shops"},
		"one that needs none":             {waiting(), "canary", "", "needs no approval"},
		"the rest":                        {waiting(), "rest", "", "needs no approval"},
		"of a spec that is not seen yet":  {with(waiting(), func(d *v1alpha1.Deployment) { d.Generation = 4 }), "", "", "has not answered generation 4"},
		"of a revision that failed":       {stalled(v1alpha1.WaveRolledBack, v1alpha1.ReasonRolledBack), "shops", "", "not tried again"},
		"where there are no waves":        {with(waiting(), func(d *v1alpha1.Deployment) { d.Spec.Rollout.Waves = nil }), "shops", "", "has no waves"},
		"where no wave needs an approval": {with(waiting(), func(d *v1alpha1.Deployment) { d.Spec.Rollout.Waves = d.Spec.Rollout.Waves[:1] }), "", "", "needs an approval"},
		"when the rollout is over":        {seen(v1alpha1.WaveComplete, "True", v1alpha1.ReasonRolloutComplete), "", "", "the rollout is complete"},
	} {
		t.Run(name, func(t *testing.T) {
			wave, err := waveToApprove(c.d, c.asked)
			if wave != c.wave || (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("got %q, %v; want %q, %q", wave, err, c.wave, c.refused)
			}
		})
	}
}

func TestApprovalTakesThePlaceOfAnOlderOne(t *testing.T) {
	d := with(seen(v1alpha1.WaveSoaking, "False", v1alpha1.ReasonSoaking), func(d *v1alpha1.Deployment) {
		d.Spec.Rollout.Approvals = []v1alpha1.Approval{{Wave: "shops", Revision: "web-a"}}
	})
	object := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"rollout": map[string]any{"approvals": []any{
		map[string]any{"wave": "other", "revision": "web-a"}, map[string]any{"wave": "shops", "revision": "web-a"}}}}}}
	if _, err := approve("shops")(d, object); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"spec":{"rollout":{"approvals":[{"revision":"web-a","wave":"other"},{"revision":"web-b","wave":"shops"}]}}}`; string(got) != want {
		t.Errorf("got %s", got)
	}
}

func kepts() []kept {
	var out []kept
	for i, name := range []string{"web-a", "web-b", "web-c"} {
		out = append(out, kept{Revision: Revision{Revision: int64(i + 1), Name: name, Commit: "commit" + name}})
	}
	return out
}

func TestGoBackTo(t *testing.T) {
	for name, c := range map[string]struct {
		current, update string
		generation      int64
		to              string
		want, refused   string
	}{
		"in the middle of a rollout, to what all ran":  {"web-a", "web-c", 3, "", "web-a", ""},
		"after one, to the revision before":            {"web-c", "web-c", 3, "", "web-b", ""},
		"in the first rollout there is nothing":        {"", "web-a", 3, "", "", "no revision before"},
		"by number":                                    {"web-c", "web-c", 3, "1", "web-a", ""},
		"by name":                                      {"web-c", "web-c", 3, "web-b", "web-b", ""},
		"by short name":                                {"web-c", "web-c", 3, "b", "web-b", ""},
		"0 is the default, as in kubectl":              {"web-c", "web-c", 3, "0", "web-b", ""},
		"one that is not there":                        {"web-c", "web-c", 3, "9", "", "no revision 9"},
		"not while the operator has not seen the spec": {"web-c", "web-c", 4, "", "", "has not answered"},
		"a named one also while it has not":            {"web-c", "web-c", 4, "2", "web-b", ""},
		"the current revision was pruned by somebody":  {"web-x", "web-c", 3, "", "", "no revision web-x"},
	} {
		t.Run(name, func(t *testing.T) {
			d := seen(v1alpha1.WaveProgressing, "False", v1alpha1.ReasonProgressing)
			d.Status.CurrentRevision, d.Status.UpdateRevision, d.Generation = c.current, c.update, c.generation
			all := kepts()
			for i := range all {
				all[i].Update, all[i].Current = all[i].Name == c.update, all[i].Name == c.current
			}
			got, err := goBackTo(d, all, c.to)
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) || got != nil && got.Name != c.want {
				t.Errorf("got %v, %v; want %q, %q", got, err, c.want, c.refused)
			}
		})
	}
}

func TestUndoSaysWhenConfigMapsCannotBeRead(t *testing.T) {
	all := kepts()
	all[0].raw = map[string]any{"podman": map[string]any{}}
	all[0].content.Score.Podman = &v1alpha1.PodmanScore{}
	d := seen(v1alpha1.WaveProgressing, "False", v1alpha1.ReasonProgressing)
	made, err := undo(d, &unstructured.Unstructured{Object: map[string]any{}}, all, &all[0], nil, errors.New("forbidden"))
	if err != nil || !slices.ContainsFunc(made.notes, func(n string) bool { return strings.Contains(n, "could not be read: forbidden") }) {
		t.Errorf("notes %q, %v", made.notes, err)
	}
}

func TestChanges(t *testing.T) {
	pod := func(change func(*v1alpha1.PodmanScore)) content {
		p := &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "web", Image: "example.org:5000/web:1"}, {Name: "log", Image: "example.org/log"}}}
		change(p)
		return content{Score: v1alpha1.Score{Podman: p}, ConfigMaps: map[string]*configMapData{"conf": {Data: map[string]string{"a": "1"}}}}
	}
	base := pod(func(*v1alpha1.PodmanScore) {})
	for name, c := range map[string]struct {
		after content
		want  string
	}{
		"nothing":       {base, ""},
		"a tag":         {pod(func(p *v1alpha1.PodmanScore) { p.Containers[0].Image = "example.org:5000/web:2" }), "web 1 -> 2"},
		"another image": {pod(func(p *v1alpha1.PodmanScore) { p.Containers[0].Image = "example.org/web:2" }), "web example.org:5000/web:1 -> example.org/web:2"},
		"a first tag":   {pod(func(p *v1alpha1.PodmanScore) { p.Containers[1].Image = "example.org/log:2" }), "log example.org/log -> example.org/log:2"},
		"a digest":      {pod(func(p *v1alpha1.PodmanScore) { p.Containers[1].Image = "example.org/log@sha256:0" }), "log example.org/log -> example.org/log@sha256:0"},
		"a container more": {pod(func(p *v1alpha1.PodmanScore) {
			p.Containers = append(p.Containers, v1alpha1.Container{Name: "x", Image: "x:1"})
		}), "new x x:1"},
		"a container less": {pod(func(p *v1alpha1.PodmanScore) { p.Containers = p.Containers[:1] }), "without log"},
		"fields of container": {pod(func(p *v1alpha1.PodmanScore) {
			p.Containers[0].Args, p.Containers[0].Command = []string{"a"}, []string{"b"}
		}), "web args, command"},
		"fields of the pod": {pod(func(p *v1alpha1.PodmanScore) { p.HostNetwork = true }), "hostNetwork"},
		"a restart":         {pod(func(p *v1alpha1.PodmanScore) { p.RestartedAt = "2026-01-02T03:04:05Z" }), "restart"},
		"a ConfigMap": {with2(base, func(c *content) {
			c.ConfigMaps = map[string]*configMapData{"conf": nil}
		}), "ConfigMap conf"},
		"another kind of score": {content{Score: v1alpha1.Score{Kubernetes: &v1alpha1.KubernetesScore{Manifests: make([]v1alpha1.Manifest, 2)}}}, "2 manifests"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(changes(&base, c.after), "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := strings.Join(changes(nil, base), "; "); got != "web example.org:5000/web:1; log example.org/log" {
		t.Errorf("the first is %q", got)
	}
}

func with2(c content, change func(*content)) content {
	change(&c)
	return c
}

func TestScreenFitsTheTerminal(t *testing.T) {
	d := stalled(v1alpha1.WaveHalted, v1alpha1.ReasonDevicesFailed)
	for _, name := range []string{"canary", "shops", "rest"} {
		d.Status.Waves = append(d.Status.Waves, v1alpha1.WaveProgress{Name: name, Phase: v1alpha1.WaveHalted, Matched: 50000, Failed: 11})
	}
	d.Status.Aggregate = &v1alpha1.Aggregate{Matched: 100000, Failed: 11}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		d.Status.Failures = append(d.Status.Failures, v1alpha1.Failure{Device: name, Reason: "ProbeFailed", Message: strings.Repeat("very long ", 30), Log: strings.Repeat("line\n", 40)})
	}
	r := Observe(d)
	for _, size := range []struct{ width, lines int }{{80, 23}, {100, 30}, {200, 60}, {50, 23}} {
		text := RenderWithin(screen.Style{Width: size.width}, r, time.Unix(1000, 0), Detail{}, size.lines)
		if n := strings.Count(text, "\n"); n > size.lines {
			t.Errorf("%dx%d: %d lines\n%s", size.width, size.lines, n, text)
		}
		for line := range strings.Lines(text) {
			if w := screen.Width(strings.TrimSuffix(line, "\n")); w > size.width {
				t.Errorf("%dx%d: a line of %d columns: %s", size.width, size.lines, w, line)
			}
		}
		if !strings.Contains(text, "kubectl fleet rollout undo web -n shops") && !strings.Contains(text, "kubectl fleet rollout undo web -n\n") {
			t.Errorf("%dx%d: it does not say what to do\n%s", size.width, size.lines, text)
		}
	}
}

func TestChangesOfMachines(t *testing.T) {
	machine := func(name, image string, cpus int32) v1alpha1.Machine {
		m := v1alpha1.Machine{Name: name, CPUs: cpus}
		if image != "" {
			m.Disks = []v1alpha1.Disk{{Name: "root", Image: image}}
		}
		return m
	}
	of := func(machines ...v1alpha1.Machine) content {
		return content{Score: v1alpha1.Score{KVM: &v1alpha1.KVMScore{Machines: machines}}}
	}
	before := of(machine("till", "debian-12.qcow2", 1), machine("kiosk", "", 1))
	for name, c := range map[string]struct {
		after content
		want  string
	}{
		"nothing":         {before, ""},
		"another image":   {of(machine("till", "debian-13.qcow2", 1), machine("kiosk", "", 1)), "till debian-12.qcow2 -> debian-13.qcow2"},
		"more processors": {of(machine("till", "debian-12.qcow2", 2), machine("kiosk", "", 1)), "till cpus"},
		"other machines":  {of(machine("till", "debian-12.qcow2", 1), machine("web", "web.qcow2", 1)), "new web web.qcow2; without kiosk"},
		"a pod instead":   {content{Score: v1alpha1.Score{Podman: &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "app", Image: "app:1"}}}}}, "app app:1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(changes(&before, c.after), "; "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	if got := strings.Join(changes(nil, before), "; "); got != "till debian-12.qcow2; kiosk" {
		t.Errorf("the first is %q", got)
	}
}
