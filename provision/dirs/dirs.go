// Package dirs says where fleet keeps files for a person: data, cache, secrets and keys.
//
// HARMONY_DATA_DIR puts all of them below one directory, which is how a pipeline and a
// test keep apart what they do; otherwise they are where the XDG base directories say.
package dirs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/adrg/xdg"
)

// Variable is the environment variable that names the directory of everything.
const Variable = "HARMONY_DATA_DIR"

// vendor is the directory below those of XDG, which fleet shares with Harmony's other
// tools, and product fleet's own below that.
const vendor, product = "harmony", "fleet"

// Dirs are the directories of one person. None is made before it is asked for.
type Dirs struct{ data, cache string }

// Find reads the environment.
func Find() (Dirs, error) {
	if dir := os.Getenv(Variable); dir != "" {
		// What is relative would be somewhere else for the next command.
		if !filepath.IsAbs(dir) {
			return Dirs{}, fmt.Errorf("%s is %q: it must be an absolute path", Variable, dir)
		}
		return At(dir), nil
	}
	return Dirs{data: filepath.Join(xdg.DataHome, vendor, product), cache: filepath.Join(xdg.CacheHome, vendor, product)}, nil
}

// At has everything below one directory, as HARMONY_DATA_DIR does.
func At(dir string) Dirs {
	data := filepath.Join(dir, product)
	return Dirs{data: data, cache: data}
}

// Data holds what has to be kept.
func (d Dirs) Data() (string, error) { return made(d.data, 0o755) }

// Cache holds what can be had again.
func (d Dirs) Cache() (string, error) { return made(filepath.Join(d.cache, "cache"), 0o755) }

// CloudImages holds the images that machines are made of.
func (d Dirs) CloudImages() (string, error) {
	return made(filepath.Join(d.cache, "cloud-images"), 0o755)
}

// Secrets is readable by nobody else.
func (d Dirs) Secrets() (string, error) { return made(filepath.Join(d.data, "secrets"), 0o700) }

// Keys holds pairs of keys for SSH, and the host keys that were accepted. It is readable
// by nobody else: ssh refuses a key that is not.
func (d Dirs) Keys() (string, error) { return made(filepath.Join(d.data, "ssh"), 0o700) }

// Pool is where libvirt on this machine keeps the disks of a pool, "" where it is left to
// libvirt. It is not made here: libvirt does that, with the rights that it needs.
func (d Dirs) Pool(name string) string {
	if d.data != d.cache {
		// Below a person's home, which QEMU's user may not enter.
		return ""
	}
	return filepath.Join(d.data, "pools", name)
}

// made makes a directory, and takes away what others may do in it beyond mode.
func made(path string, mode fs.FileMode) (string, error) {
	if err := os.MkdirAll(path, mode); err != nil {
		return "", fmt.Errorf("make the directory for fleet's files: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("look at the directory for fleet's files: %w", err)
	}
	if extra := info.Mode().Perm() &^ mode; extra&0o077 != 0 {
		err := os.Chmod(path, info.Mode().Perm()&mode)
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("%s is another user's, who could put something else in place of what fleet keeps there: remove it, or name another directory with %s", path, Variable)
		}
		if err != nil {
			return "", fmt.Errorf("take others' rights on %s away: %w", path, err)
		}
	}
	return path, nil
}
