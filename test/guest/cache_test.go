package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWhatIsInTheCacheIsMadeOnce(t *testing.T) {
	t.Setenv("FLEET_CACHE", t.TempDir())
	var builds atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			path, err := made(t.Context(), "thing", func(path string) error {
				builds.Add(1)
				return os.WriteFile(path, []byte("whole"), 0o600)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != "whole" {
				t.Errorf("it holds %q, %v", content, err)
			}
		})
	}
	group.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("it was made %d times", n)
	}
}

func TestWhatCouldNotBeMadeIsNotInTheCache(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FLEET_CACHE", dir)
	broken := errors.New("the disk is full")
	_, err := made(t.Context(), "thing", func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("ha"), 0o600), broken)
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), filepath.Join(dir, "guest", "thing")) {
		t.Errorf("error %v, want one that names the file and %v", err, broken)
	}
	left, err := filepath.Glob(filepath.Join(dir, "guest", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if !strings.HasSuffix(path, ".lock") {
			t.Errorf("%s is left", path)
		}
	}
}
