package identity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestEnsureMakesAKeyOnceAndForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity.nk")
	first, err := Ensure(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ensure(path)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !strings.HasPrefix(first, "U") {
		t.Errorf("%s then %s, want one user key", first, second)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestEnsureMakesOneKeyForAllWhoAskAtOnce(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "identity.nk")
		keys := make([]string, 8)
		var asking sync.WaitGroup
		for i := range keys {
			asking.Go(func() {
				var err error
				if keys[i], err = Ensure(path); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if different := slices.Compact(slices.Sorted(slices.Values(keys))); len(different) != 1 {
			t.Fatalf("keys %v, want one", different)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("left behind: %v, %v", entries, err)
		}
	}
}

func TestEnsureRefusesAndKeeps(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"a file that is no key":           {"hello", 0o600, "not an NKey seed"},
		"an empty file":                   {"", 0o600, "not an NKey seed"},
		"a key that others can read":      {"x", 0o644, "can be read by others"},
		"the key of a server, not a user": {"SNAAIBDPA3ERUNPCVXZMLOPSZNRYJVB5EC4LRDD2BTXUKGKRQXMDRGMNFY", 0o600, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity.nk")
			if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Ensure(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want it to contain %q", err, tt.want)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != tt.text {
				t.Errorf("the file is now %q, %v", after, err)
			}
		})
	}
}
