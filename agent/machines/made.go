package machines

import (
	"fmt"
	"strconv"
	"strings"
)

// Made is what a machine was made from, part by part, so that a difference can be named.
// It is written into libvirt with the machine, which is where it is true: the agent keeps
// no notes of its own that could be lost or be of another machine.
type Made struct {
	Format string
	// MaxCPUs and MaxMemory are what the machine can be raised to while it runs.
	MaxCPUs   int
	MaxMemory int64
	// Arch and Type are empty for the device's own.
	Arch, Type string
	Console    bool
	// Disks and Interfaces are hashes; Seed is one, or empty.
	Disks, Interfaces, Seed string
	// Stop is how many seconds the guest has to shut down. It is no difference.
	Stop int64
}

// none stands for an empty part, since what is written is words with spaces between.
const none = "-"

// parts are the names and values of what is written, in their order.
func (m *Made) parts() []struct {
	name string
	get  func() string
	set  func(string) error
} {
	type part = struct {
		name string
		get  func() string
		set  func(string) error
	}
	text := func(name string, at *string) part {
		return part{name, func() string {
			if *at == "" {
				return none
			}
			return *at
		}, func(s string) error {
			if *at = s; s == none {
				*at = ""
			}
			return nil
		}}
	}
	number := func(name string, at *int64) part {
		return part{name, func() string { return strconv.FormatInt(*at, 10) }, func(s string) (err error) {
			*at, err = strconv.ParseInt(s, 10, 64)
			return err
		}}
	}
	return []part{
		text("format", &m.Format),
		{"maxCPUs", func() string { return strconv.Itoa(m.MaxCPUs) }, func(s string) (err error) { m.MaxCPUs, err = strconv.Atoi(s); return err }},
		number("maxMemory", &m.MaxMemory),
		text("arch", &m.Arch), text("type", &m.Type),
		{"console", func() string { return strconv.FormatBool(m.Console) }, func(s string) (err error) { m.Console, err = strconv.ParseBool(s); return err }},
		text("disks", &m.Disks), text("interfaces", &m.Interfaces), text("seed", &m.Seed),
		number("stop", &m.Stop),
	}
}

// String is what is written into libvirt.
func (m Made) String() string {
	var words []string
	for _, p := range m.parts() {
		words = append(words, p.name+"="+p.get())
	}
	return strings.Join(words, " ")
}

// ParseMade reads what was written into libvirt.
func ParseMade(s string) (Made, error) {
	var m Made
	parts := m.parts()
	words := strings.Fields(s)
	if len(words) != len(parts) {
		return Made{}, fmt.Errorf("%q does not say what the machine was made from", s)
	}
	for i, p := range parts {
		name, value, ok := strings.Cut(words[i], "=")
		if !ok || name != p.name {
			return Made{}, fmt.Errorf("%q does not say the machine's %s", s, p.name)
		}
		if err := p.set(value); err != nil {
			return Made{}, fmt.Errorf("the machine's %s: %w", p.name, err)
		}
	}
	return m, nil
}

// differs names the parts of a machine that have to become others, in the words of the
// score, and that a running machine can't take. What can be changed while it runs is
// left out, and so is room for more than is wanted.
func (m *Machine) differs(was Made) []string {
	var out []string
	change := func(name string, differ bool, from, to string) {
		switch {
		case !differ:
		case from == "" && to == "":
			out = append(out, name)
		default:
			out = append(out, fmt.Sprintf("%s %s → %s", name, word(from), word(to)))
		}
	}
	is := m.Made
	if was.Format != is.Format {
		return []string{"what the agent makes machines from"}
	}
	// Where the score says nothing of a most, what the machine has will do.
	if m.Spec.MaxMemoryBytes == 0 {
		change("memory", m.Spec.MemoryBytes > was.MaxMemory, bytes(was.MaxMemory), bytes(m.Spec.MemoryBytes))
	} else {
		change("maxMemory", was.MaxMemory != is.MaxMemory, bytes(was.MaxMemory), bytes(is.MaxMemory))
	}
	if m.Spec.MaxCPUs == 0 {
		change("cpus", m.Spec.CPUs > was.MaxCPUs, strconv.Itoa(was.MaxCPUs), strconv.Itoa(m.Spec.CPUs))
	} else {
		change("maxCPUs", was.MaxCPUs != is.MaxCPUs, strconv.Itoa(was.MaxCPUs), strconv.Itoa(is.MaxCPUs))
	}
	change("arch", was.Arch != is.Arch, was.Arch, is.Arch)
	change("machineType", was.Type != is.Type, was.Type, is.Type)
	change("disks", was.Disks != is.Disks, "", "")
	change("interfaces", was.Interfaces != is.Interfaces, "", "")
	change("cloudInit", was.Seed != is.Seed, "", "")
	change("console", was.Console != is.Console, strconv.FormatBool(was.Console), strconv.FormatBool(is.Console))
	return out
}

// word is a value for people.
func word(s string) string {
	if s == "" {
		return "the device's own"
	}
	return s
}

// bytes is a number of bytes as it is written in a score.
func bytes(n int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	unit := 0
	for n != 0 && n%1024 == 0 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	return strconv.FormatInt(n, 10) + units[unit]
}
