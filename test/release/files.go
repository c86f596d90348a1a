package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// release is what lies in the folder of a release.
type release struct {
	dist string
	// tag is the version, with its v.
	tag string
	// published are the files that are offered for download, but for the checksums.
	published []string
	// stated are the files that checksums.txt has, with the sum that it states.
	stated map[string]string
	// sums are those of the published files as they are.
	sums map[string]string
}

const checksums = "checksums.txt"

// publishedTypes are goreleaser's names for what it uploads.
var publishedTypes = []string{"Archive", "Linux Package", "SBOM"}

func readRelease(dist string) (release, error) {
	r := release{dist: dist, stated: map[string]string{}, sums: map[string]string{}}
	var metadata struct{ Version string }
	if err := readJSON(filepath.Join(dist, "metadata.json"), &metadata); err != nil {
		return r, err
	}
	r.tag = "v" + metadata.Version
	var artifacts []struct{ Name, Type string }
	if err := readJSON(filepath.Join(dist, "artifacts.json"), &artifacts); err != nil {
		return r, err
	}
	for _, a := range artifacts {
		if !slices.Contains(publishedTypes, a.Type) {
			continue
		}
		sum, err := sumOf(filepath.Join(dist, a.Name))
		if err != nil {
			return r, err
		}
		r.published, r.sums[a.Name] = append(r.published, a.Name), sum
	}
	text, err := os.ReadFile(filepath.Join(dist, checksums))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return r, fmt.Errorf("%s: %q is no checksum and name", checksums, line)
		}
		r.stated[name] = sum
	}
	return r, nil
}

// problems are those of the checksums.
func (r release) problems() []string {
	var found []string
	for _, name := range r.published {
		switch stated, ok := r.stated[name]; {
		case !ok:
			found = append(found, fmt.Sprintf("%s is not in %s", name, checksums))
		case stated != r.sums[name]:
			found = append(found, fmt.Sprintf("%s states %s for %s, which has %s", checksums, stated, name, r.sums[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.stated)) {
		if !slices.Contains(r.published, name) {
			found = append(found, fmt.Sprintf("%s has %s, which is not published", checksums, name))
		}
	}
	return found
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
