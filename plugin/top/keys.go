package top

import (
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/nationtech/fleet/plugin/screen"
)

// key obeys a key. Letters that were typed faster than they came over the line arrive
// together.
func (m *model) key(msg tea.KeyMsg) tea.Cmd {
	switch {
	case msg.String() == "ctrl+c":
		return tea.Quit
	case msg.String() == "ctrl+z":
		return tea.Suspend
	case m.typing:
		m.typed(msg)
		return nil
	case msg.Paste:
		return nil
	case msg.Type != tea.KeyRunes || msg.Alt:
		return m.press(msg.String())
	}
	for i, r := range msg.Runes {
		if m.typing {
			msg.Runes = msg.Runes[i:]
			m.typed(msg)
			return nil
		}
		if command := m.press(string(r)); command != nil {
			return command
		}
	}
	return nil
}

// press obeys one key.
func (m *model) press(name string) tea.Cmd {
	switch {
	case name == "q":
		return tea.Quit
	case m.help || m.detail != nil:
		m.pressCovered(name)
		return nil
	}
	t := m.active
	lines := m.layout().rows
	switch name {
	case "tab", "shift+tab":
		m.active = m.inactive()
	case "/":
		m.typing = true
	case "esc":
		t.search("")
	case "p":
		t.toggleProblems()
	case "s":
		t.nextOrder()
	case "S":
		t.reverse()
	case "enter":
		if k, ok := t.current(); ok {
			m.detail, m.pager = &detail{t, k}, pager{}
		}
	case "?":
		m.help, m.pager = true, pager{}
	default:
		m.scroll(name, t, lines)
	}
	return nil
}

// scrolled is what the keys that scroll work on.
type scrolled interface {
	move(by, lines int)
	page(by, lines int)
}

func (m *model) scroll(name string, s scrolled, lines int) {
	// More than there can be: from one end to the other.
	const all = 1 << 30
	switch name {
	case "down", "j":
		s.move(1, lines)
	case "up", "k":
		s.move(-1, lines)
	case "pgdown", " ", "ctrl+f":
		s.page(1, lines)
	case "pgup", "ctrl+b":
		s.page(-1, lines)
	case "home", "g":
		s.move(-all, lines)
	case "end", "G":
		s.move(all, lines)
	}
}

// pressCovered obeys a key while something covers the rows.
func (m *model) pressCovered(name string) {
	switch name {
	case "esc", "enter", "backspace":
		if !m.help {
			m.detail = nil
		}
		m.help, m.pager = false, pager{}
	case "?":
		m.help, m.pager = !m.help, pager{}
	default:
		m.scroll(name, &m.pager, m.layout().cover)
	}
}

// typed takes what is typed into the filter; rows follow at once.
func (m *model) typed(msg tea.KeyMsg) {
	filter := m.active.searched()
	switch msg.String() {
	case "enter":
		m.typing = false
		return
	case "esc":
		m.typing, filter = false, ""
	case "backspace", "ctrl+h":
		_, last := utf8.DecodeLastRuneInString(filter)
		filter = filter[:len(filter)-last]
	case "ctrl+u":
		filter = ""
	case "up", "down", "pgup", "pgdown":
		m.scroll(msg.String(), m.active, m.layout().rows)
		return
	default:
		if msg.Type == tea.KeyRunes || msg.Type == tea.KeySpace {
			filter += printable(string(msg.Runes))
		}
	}
	m.active.search(filter)
}

// printable is text without what no name has in it; spaces stay at its ends, for there
// is more to come.
func printable(text string) string {
	if text == " " {
		return text
	}
	return screen.Safe(text)
}
