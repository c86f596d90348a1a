package gitops

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// finer restores of a kustomization only the entries under images: that make the
// difference, where that is enough: the others are of other Deployments.
func (r *rolling) finer(units []restore) []restore {
	for i, unit := range units {
		if !isKustomizationFile(unit.file) || unit.data == nil {
			continue
		}
		now, err := r.now.ReadFile(unit.file)
		if err != nil {
			continue // there is none now: it comes back as a whole
		}
		var entries []imageEntry
		try := func(entries []imageEntry) ([]restore, bool) {
			data, err := withImages(unit.file, now, unit.data, entries)
			if err != nil {
				return nil, false // the whole file is as good
			}
			next := slices.Clone(units)
			next[i].data = data
			return next, r.reached(apply(next))
		}
		if entries, err = changedImages(unit.file, now, unit.data); err != nil {
			continue
		}
		if _, enough := try(entries); !enough {
			continue
		}
		for _, entry := range slices.Clone(entries) {
			without := slices.DeleteFunc(slices.Clone(entries), func(e imageEntry) bool { return e.Name == entry.Name })
			if _, enough := try(without); enough {
				entries = without
			}
		}
		units, _ = try(entries)
	}
	return units
}

// changedImages are the entries of images: that are others now, as they were; one
// that there was not has a name alone.
func changedImages(file string, now, then []byte) ([]imageEntry, error) {
	haveNow, err := readImages(file, now)
	if err != nil {
		return nil, err
	}
	haveThen, err := readImages(file, then)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(changedEntries(haveNow, haveThen)), func(a, b imageEntry) int { return strings.Compare(a.Name, b.Name) }), nil
}

func changedEntries(now, then []imageEntry) map[string]imageEntry {
	out := map[string]imageEntry{}
	for _, entry := range then {
		if !slices.Contains(now, entry) {
			out[entry.Name] = entry
		}
	}
	for _, entry := range now {
		if !slices.ContainsFunc(then, func(e imageEntry) bool { return e.Name == entry.Name }) {
			out[entry.Name] = imageEntry{Name: entry.Name}
		}
	}
	return out
}

// withImages is a kustomization with some entries of images: as they were.
func withImages(file string, now, then []byte, entries []imageEntry) ([]byte, error) {
	had, err := readImages(file, then)
	if err != nil {
		return nil, err
	}
	return editYAML(now, func(root *yaml.RNode) error {
		for _, entry := range entries {
			if !slices.Contains(had, entry) {
				if err := root.PipeE(yaml.Lookup("images"), yaml.ElementSetter{Keys: []string{"name"}, Values: []string{entry.Name}}); err != nil {
					return fmt.Errorf("images: %s: %w", entry.Name, err)
				}
				continue
			}
			if err := setImage(root, entry); err != nil {
				return err
			}
		}
		return nil
	})
}
