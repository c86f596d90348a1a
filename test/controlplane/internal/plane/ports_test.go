package plane

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestReservedPortsLeaveNothingBehind(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				dir, err := os.MkdirTemp("", "state-")
				if err != nil {
					t.Error(err)
					return
				}
				ports, release, err := reservePorts(dir)
				if err != nil {
					t.Error(err)
					return
				}
				if again, err := lockBlock(ports); err != nil || again != nil {
					t.Errorf("the ports from %d on could be reserved twice (error %v)", ports[portEtcd], err)
				}
				release()
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left (error %v)", left, err)
	}
}

func TestLockOfAKilledProcessIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	release, err := lockBlock(block(firstPort))
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("there are %v, want one folder (error %v)", folders, err)
	}
	if err := os.WriteFile(filepath.Join(folders[0], "17000"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := os.Stat(folders[0]); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", folders[0], err)
	}
}
