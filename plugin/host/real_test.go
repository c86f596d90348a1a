package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/preflight"
	"github.com/nationtech/fleet/provision/ssh"
	"github.com/nationtech/fleet/test/fresh"
)

// run runs kubectl fleet host.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := NewCommand(cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut}))
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// drift turns on the host off what is to run there.
func drift(t *testing.T, s *fresh.System) {
	t.Helper()
	c, err := ssh.Dial(t.Context(), s.Address, ssh.Options{Identities: ssh.Identities{Files: []string{s.Key}}, Accept: s.Fingerprint})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Run(t.Context(), command.AsRoot("systemctl", "disable", "--now", "virtlogd.service", "virtlogd.socket", "virtlogd-admin.socket")); err != nil {
		t.Fatal(err)
	}
}

// TestAFreshSystemBecomesAHost sets one up again and again, over SSH and as a
// user who is not root.
func TestAFreshSystemBecomesAHost(t *testing.T) {
	s := fresh.Start(t)
	t.Setenv(dirs.Variable, t.TempDir())
	reach := []string{"--connect", s.Address.String(), "--identity", s.Key}
	with := func(args ...string) []string { return slices.Concat(args, reach) }

	if _, _, err := run(t, with("check")...); err == nil || !strings.Contains(err.Error(), "--accept-host-key "+s.Fingerprint) {
		t.Fatalf("a host that nobody knows: %v", err)
	}
	reach = append(reach, "--accept-host-key", s.Fingerprint)
	out, _, err := run(t, with("check", "-o", "json")...)
	var exit *cli.ExitError
	if !errors.As(err, &exit) || exit.Code != cli.CodeBad {
		t.Fatalf("nothing is installed, and check says %v\n%s", err, out)
	}
	var before Check
	if err := json.Unmarshal([]byte(out), &before); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"libvirt", "dnsmasq"} {
		if !slices.ContainsFunc(before.Findings, func(f preflight.Finding) bool {
			return f.What == what && f.Level == preflight.Bad && strings.Contains(f.Remedy, "kubectl fleet host setup --connect "+s.Address.String())
		}) {
			t.Errorf("it is not said that %s is missing, and how to get it: %s", what, out)
		}
	}

	var setups []Setup
	for i := range 3 {
		if i == 2 {
			drift(t, s)
		}
		out, errOut, err := run(t, with("setup", "--subnet", "10.217.0.0/24", "-o", "json")...)
		if err != nil {
			t.Fatalf("%v\n%s", err, errOut)
		}
		t.Log(errOut)
		var setup Setup
		if err := json.Unmarshal([]byte(out), &setup); err != nil {
			t.Fatal(err)
		}
		setups = append(setups, setup)
	}
	changed := func(s Setup) []string {
		var names []string
		for _, step := range s.Steps {
			if step.Changed {
				names = append(names, step.Name)
			}
		}
		return names
	}
	first := changed(setups[0])
	for _, want := range []string{"packages", "group libvirt", "storage pool harmony-fleet", "network fleet"} {
		if !slices.Contains(first, want) {
			t.Errorf("the first time %q was not changed: %q", want, first)
		}
	}
	if second := changed(setups[1]); len(second) > 0 || setups[1].Changed || len(setups[1].Steps) != len(setups[0].Steps) {
		t.Errorf("the second time %q was changed: %+v", second, setups[1])
	}
	if third := changed(setups[2]); !slices.Equal(third, []string{"services"}) {
		t.Errorf("of what somebody has turned off %q was put right", third)
	}
	out, errOut, err := run(t, with("check")...)
	if err != nil || !strings.Contains(out, "answers on "+s.Address.Name) {
		t.Errorf("after that: %v\n%s%s", err, out, errOut)
	}
}
