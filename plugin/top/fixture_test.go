package top

import (
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// now is the clock of the tests.
var now = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

func ago(d time.Duration) *metav1.MicroTime { return &metav1.MicroTime{Time: now.Add(-d)} }

// beat is a heartbeat of so long ago; a negative one never came.
func beat(name string, last time.Duration, change ...func(*live.Heartbeat)) *live.Heartbeat {
	h := &live.Heartbeat{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: name, Labels: map[string]string{"site": "mtl"}},
		Spec:       live.HeartbeatSpec{Device: name},
	}
	if last >= 0 {
		h.Status = live.HeartbeatStatus{
			Ready: last < 90*time.Second, LastHeartbeatTime: ago(last), IntervalSeconds: 30, Sequence: 5760, LatencyMillis: 12,
			UptimeSeconds: 172800, AgentVersion: "v0.1.0", Hostname: name + ".local",
		}
	}
	for _, c := range change {
		c(h)
	}
	return h
}

// placed is a placement that has been in its phase for so long.
func placed(device, deployment, phase string, since time.Duration, change ...func(*live.Placement)) *live.Placement {
	revision := deployment + "-x4vc44zvb4"
	p := &live.Placement{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: device + "." + deployment, Labels: map[string]string{"site": "mtl"}},
		Spec:       live.PlacementSpec{Device: device, Deployment: deployment, Revision: revision, Wave: "canary", ToldTime: ago(5 * time.Hour)},
		Status:     live.PlacementStatus{Ready: phase == "Running", Revision: revision, Phase: phase, SinceTime: ago(since), Online: true},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func because(reason, message string) func(*live.Placement) {
	return func(p *live.Placement) { p.Status.Reason, p.Status.Message, p.Status.Restarts = reason, message, 7 }
}

func offline(p *live.Placement) { p.Status.Ready, p.Status.Online = false, false }

func behind(p *live.Placement) { p.Status.Revision = p.Spec.Deployment + "-7c5xfcb6c5" }

// fleet is a fleet with everything that can be the matter with one.
func fleet() frame {
	heartbeats := []*live.Heartbeat{
		beat("till-1", 3*time.Second), beat("till-2", 12*time.Second), beat("till-3", 29*time.Second),
		beat("till-4", 75*time.Second, func(h *live.Heartbeat) { h.Status.Missed = 2 }),
		beat("till-5", 50*time.Minute), beat("till-6", 4*24*time.Hour), beat("till-7", -1),
		beat("till-8", time.Second, func(h *live.Heartbeat) {
			h.Status.AgentVersion, h.Status.Hostname, h.Status.LatencyMillis = "v9\x1b[2J\r\n", "evil\x1b]0;owned\a", -123456789
		}),
	}
	placements := []*live.Placement{
		placed("till-1", "signage", "Running", 3*time.Hour), placed("till-1", "hello", "Running", 26*time.Hour),
		placed("till-2", "signage", "Failed", 40*time.Second, because("ImagePullFailed", "pull registry.example.com/signage:1.5: manifest unknown: "+strings.Repeat("the registry has no such thing, ", 6)+"ask whoever has deleted it")),
		placed("till-2", "hello", "Running", 26*time.Hour),
		placed("till-3", "signage", "Pulling", 20*time.Second, behind),
		placed("till-4", "signage", "Degraded", 2*time.Minute, because("ProbeFailed", "connection refused")),
		placed("till-5", "signage", "Running", 30*time.Hour, offline), placed("till-6", "hello", "Failed", 5*24*time.Hour, offline, because("PortInUse", "port 8080 is taken")),
		placed("till-7", "signage", "Pending", 0, offline, func(p *live.Placement) { p.Status.Revision, p.Status.SinceTime = "", nil }),
		placed("till-8", "signage", "RolledBack", 9*time.Minute, because("\x1b[31mEvil\x1b[0m", "one\nline\x1b[1A and \u202eanother")),
	}
	return full(now, heartbeats, placements)
}

// full is a frame with two lists.
func full(at time.Time, heartbeats []*live.Heartbeat, placements []*live.Placement) frame {
	f := frame{now: at, heartbeats: changes[live.Heartbeat]{listed: true, objects: map[key]*live.Heartbeat{}}}
	f.placements = changes[live.Placement]{listed: true, objects: map[key]*live.Placement{}}
	for _, h := range heartbeats {
		f.heartbeats.objects[keyOf(h)] = h
	}
	for _, p := range placements {
		f.placements.objects[keyOf(p)] = p
	}
	return f
}

// open is a screen with something on it.
func open(width, height int, happened ...tea.Msg) *model {
	m := newModel(screen.Style{Unicode: true, Terminal: true}, cli.Scope{Namespace: "shops"}, "worst", now.Add(-time.Minute))
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	for _, msg := range happened {
		m.Update(msg)
	}
	return m
}

// press presses keys, one after the other; those with a name are written <name>.
func press(m *model, keys string) tea.Cmd {
	names := map[string]tea.KeyType{
		"tab": tea.KeyTab, "enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown,
		"home": tea.KeyHome, "end": tea.KeyEnd, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC, "ctrl+u": tea.KeyCtrlU, "ctrl+z": tea.KeyCtrlZ, "space": tea.KeySpace,
	}
	var command tea.Cmd
	for keys != "" {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(keys[:1])}
		rest := keys[1:]
		if name, after, ok := strings.Cut(rest, ">"); ok && keys[0] == '<' {
			kind, known := names[name]
			if !known {
				panic(fmt.Sprintf("no key %q", name))
			}
			msg, rest = tea.KeyMsg{Type: kind}, after
			if kind == tea.KeySpace {
				msg.Runes = []rune{' '}
			}
		}
		_, command = m.Update(msg)
		keys = rest
	}
	return command
}
