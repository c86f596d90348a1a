package linux

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nationtech/fleet/provision/command"
)

func TestReleases(t *testing.T) {
	for name, tt := range map[string]struct {
		text    string
		want    Release
		manager string
	}{
		"Debian has apt": {
			"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n",
			Release{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"}, "apt",
		},
		"what is made of Ubuntu has apt": {
			"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nNAME='Linux Mint'\n", Release{ID: "linuxmint", Like: []string{"ubuntu", "debian"}}, "apt",
		},
		"Fedora has dnf": {"# a comment\nID=fedora\nVERSION_ID=43\n", Release{ID: "fedora", Version: "43"}, "dnf"},
		"Rocky is made of what has dnf": {
			"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Release{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}}, "dnf",
		},
		"others are refused": {"ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.22\"\n", Release{ID: "alpine", Name: "Alpine Linux v3.22"}, ""},
		"nothing at all":     {"", Release{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ParseRelease(tt.text)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			manager, err := ManagerOf(got)
			switch {
			case tt.manager == "":
				if err == nil || !strings.Contains(err.Error(), got.String()) {
					t.Errorf("it has %v, %v", manager, err)
				}
			case err != nil || manager.Name() != tt.manager:
				t.Errorf("it has %v, %v", manager, err)
			}
		})
	}
}

func TestAPackageThatWasRemovedIsMissing(t *testing.T) {
	got := withoutInstalled([]string{"a", "b", "c", "d"}, "installed a\nconfig-files b\nnot-installed c\n")
	if !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("missing %v", got)
	}
}

// script is a host that answers commands as it is told to, for what no machine has at hand:
// a distribution with rpm, a user with sudo. The rest runs on real hosts in this folder's
// other tests.
type script struct {
	t       *testing.T
	answers map[string]command.Result
	ran     []string
}

func (s *script) Host() string { return "h" }

func (s *script) Run(_ context.Context, c command.Command) (command.Result, error) {
	line := strings.Join(c.Args, " ")
	s.ran = append(s.ran, line)
	result, known := s.answers[line]
	if !known {
		s.t.Errorf("%s was run", line)
		return result, fmt.Errorf("no answer for %s", line)
	}
	if result.Code != 0 {
		return result, &command.ExitError{Host: "h", Command: c, Result: result}
	}
	return result, nil
}

func TestDnf(t *testing.T) {
	query, install := "rpm -q --whatprovides ", "dnf install -y --setopt=install_weak_deps=False "
	s := &script{t: t, answers: map[string]command.Result{
		"cat /etc/os-release": {Stdout: "ID=fedora\n"},
		query + "qemu-kvm":    {}, query + "dnsmasq": {Code: 1, Stdout: "no package provides dnsmasq\n"},
		install + "dnsmasq": {},
	}}
	_, err := Packages{"dnf": {"qemu-kvm", "dnsmasq"}}.Interpret(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "dnsmasq is still missing on h") {
		t.Errorf("what dnf leaves out without a word: %v", err)
	}
	s.answers[query+"dnsmasq"] = command.Result{}
	outcome, err := Packages{"dnf": {"qemu-kvm", "dnsmasq"}}.Interpret(t.Context(), s)
	if err != nil || outcome.Changed {
		t.Errorf("%+v, %v", outcome, err)
	}
	if _, err := (Packages{"apt": {"x"}}).Interpret(t.Context(), s); err == nil || !strings.Contains(err.Error(), "for dnf") {
		t.Errorf("packages that have no name there: %v", err)
	}
}

func TestAHostWithoutSystemdIsSaidToBeOne(t *testing.T) {
	s := &script{t: t, answers: map[string]command.Result{"test -d /run/systemd/system": {Code: 1}}}
	_, err := Units{"libvirtd.service"}.Interpret(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "start libvirtd.service on h: there is no systemd") {
		t.Errorf("%v", err)
	}
}

func TestAUserIsPutIntoAGroupOnce(t *testing.T) {
	s := &script{t: t, answers: map[string]command.Result{
		"id -un": {Stdout: "ada\n"}, "id -nG ada": {Stdout: "ada audio\n"}, "usermod -aG libvirt ada": {},
	}}
	outcome, err := Member{Group: "libvirt"}.Interpret(t.Context(), s)
	if err != nil || !outcome.Changed {
		t.Errorf("%+v, %v", outcome, err)
	}
	s.answers["id -nG ada"] = command.Result{Stdout: "ada audio libvirt\n"}
	delete(s.answers, "usermod -aG libvirt ada")
	if outcome, err = (Member{Group: "libvirt"}).Interpret(t.Context(), s); err != nil || outcome.Changed {
		t.Errorf("%+v, %v", outcome, err)
	}
	s.answers["id -un"] = command.Result{Stdout: "root\n"}
	if outcome, err = (Member{Group: "libvirt"}).Interpret(t.Context(), s); err != nil || outcome.Changed {
		t.Errorf("root: %+v, %v", outcome, err)
	}
}

// TestDaemons starts real ones on this machine.
func TestDaemons(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/pid"
	// It ends by itself when the directory goes with the test.
	begin := `( while [ -d "$1" ]; do sleep 0.1; done ) >/dev/null 2>&1 & echo $! >"$1/pid"`
	d := Daemons{{Args: []string{"sh", "-c", begin, "sh", dir}, PIDFile: file}}
	for i, want := range []bool{true, false} {
		outcome, err := d.Interpret(t.Context(), command.Local{})
		if err != nil || outcome.Changed != want {
			t.Fatalf("time %d: %+v, %v", i+1, outcome, err)
		}
	}
}
