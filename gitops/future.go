package gitops

import (
	"maps"
	"slices"
)

// With is the tree as it will be once files have that content; nil is none.
func (t *Tree) With(files map[string][]byte) *Tree {
	future := newTree(t.Source)
	future.Folder, future.Opened = t.Folder, t.Opened
	maps.Copy(future.absent, t.absent)
	for name := range t.files {
		if _, changes := files[name]; !changes {
			future.addFile(name, func() ([]byte, error) { return t.ReadFile(name) })
		}
	}
	for name, data := range files {
		if data != nil {
			future.addFile(name, func() ([]byte, error) { return data, nil })
		}
	}
	return future
}

// renderNoting is Render, and tells the files that were read, with their content.
func renderNoting(tree *Tree, overlay Overlay) (Rendered, map[string][]byte, error) {
	fSys := newReadOnly(tree)
	rendered, err := renderFrom(fSys, overlay)
	return rendered, fSys.read, err
}

// DeploymentNames are those of the fleet Deployments in all overlays that can be
// built.
func (t *Tree) DeploymentNames() []string {
	overlays, err := t.Overlays()
	if err != nil {
		return nil
	}
	names := map[string]Object{}
	for _, overlay := range overlays {
		if rendered, err := Render(t, overlay); err == nil {
			maps.Copy(names, rendered.deployments())
		}
	}
	return slices.Sorted(maps.Keys(names))
}
