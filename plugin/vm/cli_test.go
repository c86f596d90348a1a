package vm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/provision/dirs"
)

// run runs kubectl fleet vm without any cluster.
func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := NewCommand(cli.NewEnv(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut}))
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func TestAHostThatCantBeReachedIsSaid(t *testing.T) {
	t.Setenv(dirs.Variable, t.TempDir())
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a space in the URI":  {[]string{"list", "--connect", "qemu+ssh://ada@host 7/system"}, "--connect: libvirt URI"},
		"no user in the URI":  {[]string{"start", "a", "--connect", "qemu+ssh://host7/system"}, "has no user"},
		"no libvirt there":    {[]string{"list", "--connect", "qemu:///system?socket=/nowhere/libvirt-sock"}, "kubectl fleet host setup prepares a host"},
		"a key that is none":  {[]string{"list", "--connect", "qemu+ssh://ada@127.0.0.1:1/system", "--identity", "/nowhere/key"}, "--identity: read SSH key"},
		"no name at all":      {[]string{"stop"}, "the name of a machine is missing"},
		"no time to shut off": {[]string{"stop", "a", "--grace=0s"}, "--grace"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := run(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v does not say %q", err, tt.want)
			}
		})
	}
}

func TestAllThatIsMissingIsSaidAtOnce(t *testing.T) {
	t.Setenv(dirs.Variable, t.TempDir())
	half := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(half, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, errOut, err := run(t, "create", "till-7", "--connect", "qemu:///system?socket=/nowhere/libvirt-sock", "--image", "debain-12", "--agent", half)
	if cli.CodeOf(err) != cli.CodeBad || !strings.Contains(err.Error(), "till-7 can't be made") {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"libvirt: ", "/nowhere/libvirt-sock", "kubectl fleet host setup", `image "debain-12" is neither`, "is no program for Linux"} {
		if !strings.Contains(errOut, want) {
			t.Errorf("%q is not said:\n%s", want, errOut)
		}
	}
}
