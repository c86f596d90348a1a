package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces a file at once: after a crash or a power cut it has either
// its old content or the new, never a part.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return place(path, data, mode, os.Rename)
}

// CreateFile makes a file at once, with all its content. The error wraps
// fs.ErrExist when there is one already, which stays as it is.
func CreateFile(path string, data []byte, mode fs.FileMode) error {
	return place(path, data, mode, func(from, to string) error {
		// A rename would replace what somebody else made meanwhile; a link does not.
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	})
}

// place writes a file beside its place and has it moved there.
func place(path string, data []byte, mode fs.FileMode, move func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f, data, mode), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := move(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

func fill(f *os.File, data []byte, mode fs.FileMode) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes renames and removals in a directory outlive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// remove removes a file for good; one that is not there is removed already.
func remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// setAside keeps a file that can't be read where a person finds it and the agent
// does not.
func setAside(path string) error {
	if err := os.Rename(path, path+".corrupt"); err != nil {
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	return nil
}
