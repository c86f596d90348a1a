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
	"github.com/nationtech/fleet/contracts"
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

// Public is the public half of the key in the file.
func Public(path string) (string, error) {
	pair, err := read(path)
	if err != nil {
		return "", err
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("identity %s: %w", path, err)
	}
	return public, nil
}

// Vouch has the identity in the file vouch for the device's curve key.
func Vouch(path string, d contracts.DeviceID, curve nkeys.KeyPair) (*contracts.CurveKey, error) {
	pair, err := read(path)
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	public, err := curve.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("the curve key: %w", err)
	}
	return contracts.NewCurveKey(pair, d, public)
}

// read reads the key in the file. One that others may read is refused, as ssh does: it
// may be theirs by now.
func read(path string) (nkeys.KeyPair, error) {
	seed, err := secret(path)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("identity %s is not an NKey seed: %w; remove it to make a new one, and enrol the device anew", path, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return nil, fmt.Errorf("identity %s is not a user's key, its public half is %s", path, public)
	}
	return pair, nil
}

// secret reads a file that nobody else may read.
func secret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %o): chmod 600 it, or remove it and enrol the device anew", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	return bytes.TrimSpace(text), err
}

// curveFile is next to the identity.
const curveFile = "curve.nk"

// EnsureCurve reads the key that secrets are sealed to for this device, from the folder
// of the identity in the file, and makes one if it is missing: the operator seals to the
// one that the identity vouches for, so a lost one is no loss.
func EnsureCurve(identity string) (nkeys.KeyPair, error) {
	path := filepath.Join(filepath.Dir(identity), curveFile)
	pair, err := readCurve(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	if pair, err = nkeys.CreateCurveKeys(); err != nil {
		return nil, fmt.Errorf("make a curve key: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("make a curve key: %w", err)
	}
	if err := store.CreateFile(path, append(seed, '\n'), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write the curve key: %w", err)
	}
	return readCurve(path)
}

func readCurve(path string) (nkeys.KeyPair, error) {
	seed, err := secret(path)
	if err != nil {
		return nil, fmt.Errorf("read the curve key: %w", err)
	}
	pair, err := nkeys.FromCurveSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("curve key %s is not the seed of one: %w; remove it to make a new one", path, err)
	}
	return pair, nil
}
