package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Cache finds the binaries that belong to one go.mod, go.sum and Go version.
type Cache struct {
	// GoMod and GoSum are the files of the test module. They are embedded in
	// the program, so that it can build without its own source tree.
	GoMod, GoSum []byte
	// Root is the folder of all cached versions.
	Root string
}

// DefaultRoot is ${FLEET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/fleet}/controlplane.
func DefaultRoot() (string, error) {
	if dir := os.Getenv("FLEET_CACHE"); dir != "" {
		abs, err := filepath.Abs(dir)
		return filepath.Join(abs, "controlplane"), err
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set FLEET_CACHE): %w", err)
	}
	return filepath.Join(dir, "fleet", "controlplane"), nil
}

// Key changes whenever a build would give other binaries.
func (c Cache) Key() string {
	h := sha256.New()
	for _, part := range [][]byte{c.GoMod, c.GoSum, []byte(runtime.Version()), []byte(ldflags()), []byte(fmt.Sprint(Binaries))} {
		fmt.Fprintf(h, "%d\n", len(part)) // lengths keep the parts apart
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Dir is where the finished binaries are; it exists only when complete.
func (c Cache) Dir() string { return filepath.Join(c.Root, c.Key()) }

// Complete reports whether nothing is left to build.
func (c Cache) Complete() bool {
	_, err := os.Stat(c.Dir())
	return err == nil
}
