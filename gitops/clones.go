package gitops

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// clones are the folders that kustomize makes for what it fetches with git, while it
// builds one overlay. Each is read on its own: neither a path nor a link leads out of
// it. A nil *clones has none.
type clones struct {
	// parent is where kustomize makes them.
	parent string
	// before are those of other processes.
	before map[string]bool
	open   map[string]*os.Root
}

// clonePrefix is what kustomize lets the name of each begin with.
// https://github.com/kubernetes-sigs/kustomize/blob/kyaml/v0.21.1/kyaml/filesys/confirmeddir.go
const clonePrefix = "kustomize-"

func newClones() *clones {
	c := &clones{parent: os.TempDir(), before: map[string]bool{}, open: map[string]*os.Root{}}
	if resolved, err := filepath.EvalSymlinks(c.parent); err == nil {
		c.parent = resolved
	}
	there, _ := filepath.Glob(filepath.Join(c.parent, clonePrefix+"*")) // the pattern is well formed
	for _, dir := range there {
		c.before[filepath.Base(dir)] = true
	}
	return c
}

// split takes a path into a clone apart: the clone's name and what is within.
func (c *clones) split(path string) (name, within string, ok bool) {
	if c == nil {
		return "", "", false
	}
	rel, err := filepath.Rel(c.parent, filepath.Clean(path))
	if err != nil {
		return "", "", false
	}
	name, within, _ = strings.Cut(rel, string(filepath.Separator))
	if !strings.HasPrefix(name, clonePrefix) || c.before[name] {
		return "", "", false
	}
	if within == "" {
		within = "."
	}
	return name, within, true
}

// find returns the clone that a path leads into, and the path within; nil when it
// leads into none.
func (c *clones) find(path string) (*os.Root, string) {
	name, within, ok := c.split(path)
	if !ok {
		return nil, ""
	}
	if c.open[name] == nil {
		root, err := os.OpenRoot(filepath.Join(c.parent, name))
		if err != nil {
			return nil, ""
		}
		c.open[name] = root
	}
	return c.open[name], within
}

// remove takes a clone away.
func (c *clones) remove(path string) error {
	name, _, ok := c.split(path)
	if !ok {
		return errReadOnly
	}
	if root := c.open[name]; root != nil {
		delete(c.open, name)
		_ = root.Close()
	}
	return os.RemoveAll(filepath.Join(c.parent, name))
}

// close ends the use of the clones. kustomize takes them away itself, but for those of
// bases that it can't build.
func (c *clones) close() {
	if c == nil {
		return
	}
	for name := range c.open {
		_ = c.remove(filepath.Join(c.parent, name))
	}
}

// isFetched reports whether a file that was read lies in a clone: those of the tree
// are named from the repository's root.
func isFetched(file string) bool { return filepath.IsAbs(file) }

// cleanedIn is CleanedAbs in a clone.
func cleanedIn(clone *os.Root, within string) (filesys.ConfirmedDir, string, error) {
	info, err := clone.Stat(within)
	if err != nil {
		return "", "", fmt.Errorf("%s in what was fetched: %w", within, err)
	}
	path := filepath.Join(clone.Name(), within)
	switch {
	case info.IsDir():
		return filesys.ConfirmedDir(path), "", nil
	case info.Mode().IsRegular():
		return filesys.ConfirmedDir(filepath.Dir(path)), filepath.Base(path), nil
	}
	return "", "", fmt.Errorf("%s in what was fetched: %w", within, fs.ErrInvalid)
}
