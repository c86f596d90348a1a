package podmantest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lock waits for the machine-wide lock. Whoever unlocks it when no podman is left
// takes the folder away, so it may be gone, or another one, when the lock is there.
func lock(ctx context.Context) (unlock func(), _ error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := tryLock()
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() {
				tidy()
				_ = f.Close()
			}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func lockFile() string { return filepath.Join(base, "lock") }

// tryLock returns nil when another process has the lock or has removed its file.
func tryLock() (*os.File, error) {
	// It may be taken away also while mkdir looks for it: then this says that it exists.
	if err := os.MkdirAll(base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && isAt(f, lockFile()) {
		return f, nil
	}
	_ = f.Close()
	if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, err
	}
	return nil, nil
}

// isAt reports whether the open file is still the one at the path.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// tidy removes the folder when it holds no podman any longer. It needs the lock.
func tidy() {
	entries, err := os.ReadDir(base)
	if err != nil || len(entries) != 1 {
		return
	}
	// Only the lock is there. What can't be removed harms nobody.
	_ = os.Remove(lockFile())
	_ = os.Remove(base)
}
