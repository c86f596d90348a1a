package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// members are the regular files of an archive by name, with their modes. An archive with
// anything else than files is an error: krew's do not need it.
func members(path string) (map[string]fs.FileMode, error) {
	read := ofTar
	if strings.HasSuffix(path, ".zip") {
		read = ofZip
	}
	found, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for name, mode := range found {
		if !mode.IsRegular() {
			return nil, fmt.Errorf("read %s: %s is no file", path, name)
		}
		if !fs.ValidPath(name) {
			return nil, fmt.Errorf("read %s: %q leads out of the archive", path, name)
		}
	}
	return found, nil
}

func ofTar(path string) (map[string]fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	found := map[string]fs.FileMode{}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		found[h.Name] = h.FileInfo().Mode()
	}
}

func ofZip(path string) (map[string]fs.FileMode, error) {
	r, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	found := map[string]fs.FileMode{}
	for _, f := range r.File {
		found[f.Name] = f.Mode()
	}
	return found, nil
}
