package keys

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestAKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	first, err := Ensure(dir, "fleet")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Ensure(dir, "fleet")
	if err != nil {
		t.Fatal(err)
	}
	if first.Public != again.Public || !strings.HasPrefix(first.Public, "ssh-ed25519 ") {
		t.Errorf("first %s, then %s", first.Public, again.Public)
	}
	info, err := os.Stat(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("ssh would refuse it: mode %v", info.Mode())
	}
	public, err := os.ReadFile(filepath.Join(dir, Name+".pub"))
	if err != nil || string(public) != first.Public+" fleet\n" {
		t.Errorf("public key file %q, %v", public, err)
	}
}

func TestManyAtOnceHaveTheSameKey(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	publics := make([]string, 8)
	for i := range publics {
		all.Go(func() {
			pair, err := Ensure(dir, "fleet")
			if err != nil {
				t.Error(err)
			}
			publics[i] = pair.Public
		})
	}
	all.Wait()
	for _, public := range publics {
		if public != publics[0] {
			t.Errorf("%s and %s", public, publics[0])
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestADamagedKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	if err := os.WriteFile(path, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, "fleet"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "half a key" {
		t.Errorf("it was changed to %q, %v", data, err)
	}
}
