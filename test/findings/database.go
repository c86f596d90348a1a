package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// vulnerability is what an entry in OSV's format has for the index.
type vulnerability struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
	Aliases  []string  `json:"aliases,omitempty"`
	Affected []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected,omitempty"`
}

// index writes entries in OSV's format as a database that govulncheck reads.
// https://go.dev/doc/security/vuln/database#api
func index(entries, into string) error {
	files, err := filepath.Glob(filepath.Join(entries, "GO-*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no GO-….json", entries)
	}
	for _, dir := range []string{"index", "ID"} {
		if err := os.MkdirAll(filepath.Join(into, dir), 0o755); err != nil {
			return err
		}
	}
	type ref struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
	}
	type module struct {
		Path  string `json:"path"`
		Vulns []ref  `json:"vulns"`
	}
	var all []vulnerability
	var latest time.Time
	byModule := map[string]*module{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var v vulnerability
		if err := json.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(into, "ID", v.ID+".json"), data, 0o644); err != nil {
			return err
		}
		if v.Modified.After(latest) {
			latest = v.Modified
		}
		seen := map[string]bool{}
		for _, a := range v.Affected {
			name := a.Package.Name
			if seen[name] {
				continue
			}
			seen[name] = true
			if byModule[name] == nil {
				byModule[name] = &module{Path: name}
			}
			byModule[name].Vulns = append(byModule[name].Vulns, ref{v.ID, v.Modified})
		}
		v.Affected = nil
		all = append(all, v)
	}
	var modules []*module
	for _, name := range slices.Sorted(maps.Keys(byModule)) {
		modules = append(modules, byModule[name])
	}
	for name, content := range map[string]any{"db": map[string]time.Time{"modified": latest}, "vulns": all, "modules": modules} {
		data, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(into, "index", name+".json"), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
