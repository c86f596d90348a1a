// Package packaging holds the agent's units and its installer to each other and to
// what systemd accepts.
package packaging

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func units(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.service", "*.socket"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, some...)
	}
	return found
}

func TestTheAgentLooksForPodmanWhereTheSocketIs(t *testing.T) {
	const path = "/run/fleet-agent/podman.sock"
	if socket := read(t, "fleet-agent-podman.socket"); !strings.Contains(socket, "ListenStream="+path+"\n") {
		t.Errorf("the unit's socket is not %s:\n%s", path, socket)
	}
	if script := read(t, "install.sh"); !strings.Contains(script, "socket=unix://"+path+" ") {
		t.Errorf("install.sh does not write %s into the configuration", path)
	}
	if script := read(t, "debian/postinst"); !strings.Contains(script, "unix://"+path+" ") {
		t.Errorf("the package does not look for %s in the configuration", path)
	}
}

func TestTheInstallerKnowsEveryUnit(t *testing.T) {
	script := read(t, "install.sh")
	for _, unit := range units(t) {
		if !strings.Contains(script, unit) {
			t.Errorf("install.sh does not install %s", unit)
		}
	}
	start := strings.Index(script, "systemctl restart fleet-agent.service")
	for _, before := range []string{"join --token-file -", "join --fingerprint", "agent identity"} {
		if at := strings.LastIndex(script, before); at < 0 || start < at {
			t.Errorf("the service is started before %q", before)
		}
	}
	for _, name := range []string{"install.sh", "setup.sh"} {
		if out, err := exec.Command("sh", "-n", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestFilesAreAllThatTheInstallerNeeds is for those who bring it to a device by themselves.
func TestFilesAreAllThatTheInstallerNeeds(t *testing.T) {
	needs := regexp.MustCompile(`"\$here/([^"]+)"`).FindAllStringSubmatch(read(t, "install.sh"), -1)
	if len(needs) == 0 {
		t.Fatal("it needs nothing")
	}
	for _, name := range needs {
		if _, err := fs.Stat(Files, name[1]); err != nil {
			t.Error(err)
		}
	}
}

// installed are the names of packages in what install.sh says is lacking.
var installed = regexp.MustCompile(`for name in ([a-z0-9 -]+); do helper|\|\| echo ([a-z][a-z0-9-]*)\n?`)

func TestThePackageNeedsWhatTheInstallerInstalls(t *testing.T) {
	var release struct {
		NFPMs []struct{ Dependencies, Suggests []string }
	}
	if err := yaml.Unmarshal([]byte(read(t, "../../.goreleaser.yaml")), &release); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{}
	for _, p := range release.NFPMs {
		for _, name := range append(p.Dependencies, p.Suggests...) {
			name, _, _ = strings.Cut(name, " ")
			wanted[name] = true
		}
	}
	_, lacking, _ := strings.Cut(read(t, "install.sh"), "\nlacking() {")
	lacking, _, _ = strings.Cut(lacking, "\n}\n")
	found := installed.FindAllStringSubmatch(lacking, -1)
	if len(found) < 5 {
		t.Fatalf("install.sh lacks %q", found)
	}
	for _, m := range found {
		for name := range strings.FieldsSeq(m[1] + m[2]) {
			if !wanted[name] {
				t.Errorf("install.sh installs %s, and the package neither depends on it nor suggests it", name)
			}
		}
	}
}

// execLine is a command that systemd-analyze would look for on this machine.
var execLine = regexp.MustCompile(`(?m)^(Exec\w+=)\S+`)

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no systemd-analyze on this machine")
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, unit := range units(t) {
		path := filepath.Join(dir, unit)
		text := execLine.ReplaceAllString(read(t, unit), "${1}/bin/true")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(analyze, args...)
	cmd.Stderr = &stderr
	// It ends with 0 when a setting is not known, so whatever it says counts.
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, stderr.String())
	}
}

// exposure is what systemd-analyze says of a unit at the end: 0 is what can do nothing,
// 10 what can do everything.
var exposure = regexp.MustCompile(`exposure level for \S+: (\S+)`)

// TestTheAgentStaysHardened holds the agent's unit to the figure that the guide states.
func TestTheAgentStaysHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no systemd-analyze on this machine; `make deps` installs it")
	}
	const limit, unit = "1.2", "fleet-agent.service"
	threshold := strings.ReplaceAll(limit, ".", "")
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+threshold, unit).CombinedOutput()
	m := exposure.FindSubmatch(out)
	if err != nil || m == nil || string(m[1]) != limit {
		t.Errorf("systemd-analyze security %s: %v, want an exposure of %s; when it is lower, lower it here and in the guide\n%s", unit, err, limit, out)
	}
	if guide := read(t, "../../docs/guides/device.md"); !strings.Contains(guide, "`systemd-analyze security` gives it "+limit) {
		t.Errorf("docs/guides/device.md does not say that the exposure is %s", limit)
	}
}
