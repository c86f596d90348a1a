package top

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"pgregory.net/rapid"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// colours are all that may be drawn beside text.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		// want is in the screen afterwards, not is not.
		want, not string
	}{
		"Tab shows the other view":                           {"<tab>", "[Placements]", "[Devices]"},
		"Tab twice is where it began":                        {"<tab><tab>", "[Devices]", "[Placements]"},
		"the first row is the worst":                         {"", "► till-5", ""},
		"j goes down":                                        {"jj", "► till-2", ""},
		"so does the arrow":                                  {"<down>", "► till-6", ""},
		"keys that came together all count":                  {"jjjk", "► till-2", ""},
		"k does not leave the top":                           {"kkk", "► till-5", ""},
		"G goes to the end":                                  {"G", "► till-3", ""},
		"and no further":                                     {"Gjjj", "► till-3", ""},
		"g goes back":                                        {"Gg", "► till-5", ""},
		"a screen down, as far as there are rows":            {"<pgdown>", "► till-7", ""},
		"a screen down and up is where it began":             {"j<pgdown><pgup>j", "► till-2", ""},
		"the filter works while it is typed":                 {"/till-3", "► till-3", "till-5"},
		"Backspace takes back a letter":                      {"/till-3<backspace>6", "► till-6", "till-3"},
		"Ctrl-U takes back all of it":                        {"/till-3<ctrl+u>", "till-5", "filter:"},
		"Enter keeps the filter":                             {"/till-3<enter>j", "filter: till-3", "Enter keeps"},
		"Esc clears it while it is typed":                    {"/till-3<esc>", "till-5", "filter:"},
		"Esc clears it later":                                {"/till-3<enter><esc>", "till-5", "filter:"},
		"keys are letters in a filter":                       {"/qspg", "/qspg_", ""},
		"a space is one too":                                 {"/a<space>b", "/a b_", ""},
		"arrows still move while it is typed":                {"/till<down>", "► till-6", ""},
		"the filter is one of the view":                      {"/till-3<enter><tab>", "till-5.signage", "filter:"},
		"it finds what is not in a column":                   {"<tab>/7c5xfcb6c5", "till-3.signage", "till-5"},
		"p leaves problems":                                  {"p", "only problems", "till-1"},
		"p again shows all":                                  {"ppG", "► till-3", "only problems"},
		"s is the next order":                                {"s", "by name", "worst"},
		"orders come round":                                  {"sssssss", "worst first", ""},
		"S turns the order round":                            {"S", "► till-3", ""},
		"s begins an order as it is":                         {"Ss", "by name  1-5", "reversed"},
		"Enter shows the selected device":                    {"j<enter>", "shops/till-6", "till-5"},
		"Enter shows the selected placement":                 {"<tab>j<enter>", "connection refused", "[Placements]"},
		"Esc comes back from it":                             {"j<enter><esc>", "► till-6", "Hostname"},
		"Enter does too":                                     {"j<enter><enter>", "► till-6", "Hostname"},
		"Enter on nothing is nothing":                        {"/nonsense<enter><enter>", "No device with", ""},
		"a detail scrolls":                                   {"<enter>jjjj", "Sequence", "Labels"},
		"and not beyond its end":                             {"<enter>" + strings.Repeat("j", 99), "signage", "Labels"},
		"G scrolls it to the end":                            {"<enter>G", "signage", "Labels"},
		"help":                                               {"?", "the other view", "[Devices]"},
		"help goes as it came":                               {"??", "[Devices]", "the other view"},
		"help in a detail comes back to it":                  {"<enter>?<esc>", "shops/till-5", "the other view"},
		"keys of the view do nothing in a detail":            {"<enter><tab>ps/<esc>", "[Devices]", "problems"},
		"a key that means nothing does nothing":              {"xyz", "► till-5", ""},
		"letters after / that came with it are the filter's": {"j/till-2", "► till-2", "till-5"},
	} {
		t.Run(name, func(t *testing.T) {
			m := open(80, 12, fleet())
			press(m, c.keys)
			checkScreen(t, m)
			view := m.View()
			if !strings.Contains(view, c.want) || c.not != "" && strings.Contains(view, c.not) {
				t.Errorf("want %q and not %q in\n%s", c.want, c.not, view)
			}
		})
	}
}

func TestKeysThatComeTogether(t *testing.T) {
	m := open(80, 12, fleet())
	m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jj/till")})
	if view := m.View(); !strings.Contains(view, "/till_") {
		t.Errorf("the filter is not what came after it:\n%s", view)
	}
	m = open(80, 12, fleet())
	m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("qqq"), Paste: true})
	if view := m.View(); !strings.Contains(view, "► till-5") {
		t.Errorf("what was pasted was obeyed:\n%s", view)
	}
	m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("/")})
	m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("till\x1b[2J"), Paste: true})
	checkScreen(t, m)
}

func TestQuit(t *testing.T) {
	for _, keys := range []string{"q", "<ctrl+c>", "<enter>q", "?q", "/<ctrl+c>", "jq"} {
		m := open(80, 24, fleet())
		if command := press(m, keys); command == nil || command() != tea.Quit() {
			t.Errorf("%s does not quit", keys)
		}
	}
	if command := press(open(80, 24, fleet()), "/q"); command != nil {
		t.Error("q in a filter quits")
	}
	if command := press(open(80, 24, fleet()), "<ctrl+z>"); command == nil || command() != tea.Suspend() {
		t.Error("Ctrl-Z does not suspend")
	}
}

func TestCursorStaysOnItsObject(t *testing.T) {
	m := open(80, 12, fleet())
	press(m, "jj")
	line := func() int {
		for i, l := range strings.Split(m.View(), "\n") {
			if strings.HasPrefix(l, "► till-2 ") {
				return i
			}
		}
		t.Fatalf("the cursor has left its object:\n%s", m.View())
		return 0
	}
	before := line()
	worse := frame{now: now, heartbeats: changes[live.Heartbeat]{objects: map[key]*live.Heartbeat{}}}
	for i := range 30 {
		h := beat(fmt.Sprintf("worse-%02d", i), 2*time.Minute)
		worse.heartbeats.objects[keyOf(h)] = h
	}
	m.Update(worse)
	if after := line(); after != before {
		t.Errorf("it was on line %d and is on line %d", before, after)
	}
	press(m, "g")
	if !strings.Contains(m.View(), "► worse-00") {
		t.Errorf("the top is not the worst:\n%s", m.View())
	}
	worst := beat("worst", 91*time.Second)
	m.Update(frame{now: now, heartbeats: changes[live.Heartbeat]{objects: map[key]*live.Heartbeat{keyOf(worst): worst}}})
	if !strings.Contains(m.View(), "► worst ") {
		t.Errorf("the cursor did not stay on top:\n%s", m.View())
	}
}

func TestObjectsThatGo(t *testing.T) {
	m := open(80, 12, fleet())
	press(m, "j<enter>")
	m.Update(full(now, []*live.Heartbeat{beat("till-1", 0), beat("till-9", 0)}, nil))
	if !strings.Contains(m.View(), "shops/till-6 is gone") {
		t.Errorf("the detail does not say that its object is gone:\n%s", m.View())
	}
	press(m, "<esc>")
	if view := m.View(); !strings.Contains(view, "► till-9") || !strings.Contains(view, "2 devices ") {
		t.Errorf("the cursor is not where it was:\n%s", view)
	}
	m.Update(frame{now: now, heartbeats: changes[live.Heartbeat]{objects: map[key]*live.Heartbeat{{"shops", "till-9"}: nil, {"shops", "till-1"}: nil}}})
	if view := m.View(); !strings.Contains(view, "No devices in namespace shops.") {
		t.Errorf("there should be none:\n%s", view)
	}
}

func TestDevicesCountTheirPlacements(t *testing.T) {
	m := open(80, 12, fleet())
	changed := placed("till-1", "hello", "Failed", 0)
	news := frame{now: now, placements: changes[live.Placement]{count: 1, objects: map[key]*live.Placement{keyOf(changed): changed}}}
	m.Update(news)
	if d := m.devices.rows[key{"shops", "till-1"}]; d.running != 1 || d.failed != 1 {
		t.Errorf("till-1 has %d running and %d failed", d.running, d.failed)
	}
	if d := m.devices.rows[key{"shops", "till-2"}]; d.running != 1 || d.failed != 1 {
		t.Errorf("till-2 has %d running and %d failed", d.running, d.failed)
	}
	news.placements.objects[keyOf(changed)] = nil
	m.Update(news)
	if d := m.devices.rows[key{"shops", "till-1"}]; d.running != 1 || d.failed != 0 || len(d.placements) != 1 {
		t.Errorf("till-1 has %d running and %d failed of %d", d.running, d.failed, len(d.placements))
	}
}

func TestTimeAloneMakesLate(t *testing.T) {
	count := func(m *model) int { return m.devices.counts[late] }
	m := open(80, 12, fleet())
	if got := count(m); got != 1 {
		t.Fatalf("%d are late at first", got)
	}
	m.Update(frame{now: now.Add(20 * time.Second)})
	if got := count(m); got != 2 {
		t.Errorf("%d are late after 20s, want 2", got)
	}
	m = open(80, 12, fleet())
	m.Update(frame{now: now.Add(20 * time.Second), connection: connection{now, errors.New("no answer yet")}})
	if got := count(m); got != 1 {
		t.Errorf("%d are late although nobody could have heard of them", got)
	}
}

func TestRate(t *testing.T) {
	var r rate
	r.begin = now
	for i := range 300 {
		r.add(now.Add(time.Duration(i)*100*time.Millisecond), 5)
	}
	if got := r.perSecond(now.Add(30 * time.Second)); got < 45 || got > 55 {
		t.Errorf("5 changes each 100ms are %.1f a second", got)
	}
	r.add(now.Add(time.Minute), 0)
	if got := r.perSecond(now.Add(time.Minute)); got != 0 {
		t.Errorf("after a while without changes there are %.1f a second", got)
	}
}

// TestNothingBreaksTheScreen has anything happen on a screen of any size.
func TestNothingBreaksTheScreen(t *testing.T) {
	keys := []string{"<tab>", "j", "k", "<pgdown>", "<pgup>", "g", "G", "/", "t", "<space>", "<backspace>", "<enter>", "<esc>", "p", "s", "S", "?", "<end>"}
	rapid.Check(t, func(t *rapid.T) {
		m := open(rapid.IntRange(0, 130).Draw(t, "width"), rapid.IntRange(0, 40).Draw(t, "height"))
		m.style.Color, m.style.Unicode = rapid.Bool().Draw(t, "color"), rapid.Bool().Draw(t, "unicode")
		at := now
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				m.Update(tea.WindowSizeMsg{Width: rapid.IntRange(0, 130).Draw(t, "width"), Height: rapid.IntRange(0, 40).Draw(t, "height")})
			case 1, 2:
				press(m, rapid.SampledFrom(keys).Draw(t, "key"))
			case 3:
				f := fleet()
				f.now = at
				m.Update(f)
			default:
				at = at.Add(time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "later")))
				m.Update(anything(t, at))
			}
			if m.style.Width > 0 && m.height > 0 {
				checkScreen(t, m)
			}
		}
	})
}

// anything is a frame with hostile text and numbers.
func anything(t *rapid.T, at time.Time) frame {
	name := rapid.SampledFrom([]string{"till-1", "till-2", "till-3", "b", "c"})
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\x1b[2J", "日本語の理由", "👩‍👩‍👧‍👦 e\u0301", strings.Repeat("long ", 99)}))
	number := rapid.Int64()
	f := frame{now: at, heartbeats: changes[live.Heartbeat]{count: 1, objects: map[key]*live.Heartbeat{}}, placements: changes[live.Placement]{objects: map[key]*live.Placement{}}}
	h := beat(name.Draw(t, "name"), time.Duration(rapid.Int64Range(-1, 1e12).Draw(t, "last")), func(h *live.Heartbeat) {
		h.Status.AgentVersion, h.Status.Hostname = text.Draw(t, "agent"), text.Draw(t, "hostname")
		h.Status.UptimeSeconds, h.Status.LatencyMillis, h.Status.Missed, h.Status.Sequence = number.Draw(t, "uptime"), number.Draw(t, "latency"), number.Draw(t, "missed"), number.Draw(t, "sequence")
	})
	f.heartbeats.objects[keyOf(h)] = h
	if rapid.Bool().Draw(t, "delete") {
		f.heartbeats.objects[keyOf(h)] = nil
	}
	p := placed(name.Draw(t, "on"), name.Draw(t, "deployment"), text.Draw(t, "phase"), time.Duration(number.Draw(t, "since")), func(p *live.Placement) {
		p.Status.Reason, p.Status.Message, p.Status.Revision = text.Draw(t, "reason"), text.Draw(t, "message"), text.Draw(t, "revision")
		p.Status.Restarts = number.Draw(t, "restarts")
	})
	f.placements.objects[keyOf(p)] = p
	if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
		f.connection = connection{at, errors.New(text.Draw(t, "error"))}
	}
	return f
}
