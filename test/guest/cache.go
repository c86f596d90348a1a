package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// root is ${FLEET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/fleet}/guest.
func root() (string, error) {
	if dir := os.Getenv("FLEET_CACHE"); dir != "" {
		abs, err := filepath.Abs(dir)
		return filepath.Join(abs, "guest"), err
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set FLEET_CACHE): %w", err)
	}
	return filepath.Join(dir, "fleet", "guest"), nil
}

// key is a short name for a recipe: it changes when any part of it does.
func key(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d\n%s", len(part), part) // lengths keep the parts apart
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// made returns the file or folder of the cache that has the name. When it is missing,
// build makes it at another path first, so that it is there whole or not at all, and of
// several processes that want it at the same time one builds.
func made(ctx context.Context, name string, build func(path string) error) (string, error) {
	dir, err := root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if there(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if there(path) {
		return path, nil
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := build(partial); err != nil {
		return "", errors.Join(fmt.Errorf("make %s: %w", path, err), os.RemoveAll(partial))
	}
	return path, os.Rename(partial, path)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock waits for the file's lock, which ends with this process at the latest.
func lock(ctx context.Context, path string) (unlock func(), _ error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}
