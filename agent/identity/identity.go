// Package identity keeps the device's private key, which is made on the device
// and never leaves it.
package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent/store"
)

// Ensure makes the key if the file is missing, and returns its public half. Of
// several that make one at once the first has it, and all return the same: a fleet
// may know a key from the moment it was printed.
func Ensure(path string) (string, error) {
	public, err := Public(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return public, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("write identity: %w", err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make an identity: %w", err)
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("make an identity: %w", err)
	}
	if err := store.CreateFile(path, append(seed, '\n'), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("write identity: %w", err)
	}
	return Public(path)
}

// Public is the public half of the key in the file. A key that others may read is
// refused, as ssh does: it may be theirs by now.
func Public(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read identity: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("identity %s can be read by others (mode %o): chmod 600 it, or remove it and enrol the device anew", path, info.Mode().Perm())
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read identity: %w", err)
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return "", fmt.Errorf("identity %s is not an NKey seed: %w; remove it to make a new one, and enrol the device anew", path, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("identity %s: %w", path, err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("identity %s is not a user's key, its public half is %s", path, public)
	}
	return public, nil
}
