package topology_test

import (
	"os/exec"
	"strings"
	"testing"
)

// compile has the compiler look at a folder below testdata.
func compile(t *testing.T, name string) (string, error) {
	t.Helper()
	out, err := exec.Command("go", "build", "./testdata/"+name).CombinedOutput()
	return string(out), err
}

func TestAHostThatNobodyHasSeenToDoesNotCompile(t *testing.T) {
	if out, err := compile(t, "prepared"); err != nil {
		t.Fatalf("what is right does not compile either, so this test proves nothing: %v\n%s", err, out)
	}
	out, err := compile(t, "unprepared")
	if err == nil {
		t.Fatal("a machine can be made on a host that was not prepared")
	}
	for _, want := range []string{
		"cannot use topology.Local() (value of type *topology.LinuxHost) as *topology.KVMHost",
		"cannot refer to unexported field conn in struct literal of type topology.KVMHost",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the compiler does not say %q:\n%s", want, out)
		}
	}
}
