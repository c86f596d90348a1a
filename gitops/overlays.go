package gitops

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// Folders of a fleet repository, as Init lays it out.
const (
	overlaysFolder = "overlays"
	clustersFolder = "clusters"
)

// Overlay is a directory of a fleet repository that one Flux Kustomization
// applies.
type Overlay struct {
	// Name is the directory's path below overlays/, or its whole path when it is
	// elsewhere.
	Name string
	// Path is relative to the repository's root.
	Path string
}

// Overlays lists the overlays of the repository: the directories below overlays/
// that have a kustomization file.
func (t *Tree) Overlays() ([]Overlay, error) {
	var out []Overlay
	folder := path.Join(t.Folder, overlaysFolder)
	for _, file := range t.Below(folder) {
		if !isKustomizationFile(file) {
			continue
		}
		dir := path.Dir(file)
		if component, err := t.isComponent(file); err != nil {
			return nil, err
		} else if component || dir == folder {
			continue
		}
		overlay := Overlay{Name: strings.TrimPrefix(dir, folder+"/"), Path: dir}
		if !slices.Contains(out, overlay) {
			out = append(out, overlay)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the repository (%s) has no overlay: no directory below %s/ has a kustomization.yaml", t.Source, folder)
	}
	return out, nil
}

// Find returns the overlay of that name, or the one at that path from the
// repository's root.
func (t *Tree) Find(name string) (Overlay, error) {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	folder := path.Join(t.Folder, overlaysFolder)
	if outside(path.Join(folder, clean)) || path.IsAbs(clean) {
		return Overlay{}, fmt.Errorf("overlay %q lies outside the repository: give a name below %s/, or a path from the repository's root", name, folder)
	}
	for _, dir := range []string{path.Join(folder, clean), path.Join(t.Folder, clean), clean} {
		if t.kustomizationFile(dir) != "" {
			return Overlay{Name: strings.TrimPrefix(dir, folder+"/"), Path: dir}, nil
		}
	}
	for _, dir := range []string{path.Join(folder, clean), clean} {
		if why := t.whyAbsent(dir); why != "" {
			return Overlay{}, fmt.Errorf("no overlay %q: %s %s", name, dir, why)
		}
	}
	message := fmt.Sprintf("no overlay %q: neither %s/%s nor %s has a kustomization.yaml in the %s", name, folder, clean, clean, t.Source)
	overlays, err := t.Overlays()
	if err != nil {
		return Overlay{}, errors.New(message)
	}
	names := make([]string, len(overlays))
	for i, overlay := range overlays {
		names[i] = overlay.Name
	}
	return Overlay{}, fmt.Errorf("%s; there are: %s", message, strings.Join(names, ", "))
}

// outside reports whether a path from the repository's root leads out of it.
func outside(name string) bool { return name == ".." || strings.HasPrefix(name, "../") }

// Here returns the overlays that the folder which was opened stands for: itself
// and those below it when it lies in overlays/, and all otherwise.
func (t *Tree) Here() ([]Overlay, error) {
	all, err := t.Overlays()
	if err != nil {
		return nil, err
	}
	var out []Overlay
	for _, overlay := range all {
		if overlay.Path == t.Opened || strings.HasPrefix(overlay.Path, t.Opened+"/") {
			out = append(out, overlay)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case t.kustomizationFile(t.Opened) != "" && strings.HasPrefix(t.Opened, path.Join(t.Folder, overlaysFolder)):
		return nil, fmt.Errorf("%s is a component, not an overlay", t.Opened)
	}
	return all, nil
}

// kustomizationFile returns the path of a directory's kustomization file; empty
// when it has none.
func (t *Tree) kustomizationFile(dir string) string {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		if file := path.Join(dir, name); t.files[file] != nil {
			return file
		}
	}
	return ""
}

func (t *Tree) isComponent(file string) (bool, error) {
	data, err := t.ReadFile(file)
	if err != nil {
		return false, err
	}
	var kustomization struct {
		Kind string `json:"kind"`
	}
	// A file that can't be read is shown as an overlay, so that rendering it says
	// what is wrong.
	_ = yaml.Unmarshal(data, &kustomization)
	return kustomization.Kind == types.ComponentKind, nil
}
