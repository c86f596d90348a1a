package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// readOnly shows a Tree to kustomize as a file system whose root is the
// repository's. It remembers what was read, because kustomize's errors often don't
// name the file.
type readOnly struct {
	tree *Tree
	// replaced holds content that stands in for a file's own.
	replaced map[string][]byte
	// read are the files that were read, with their own content.
	read map[string][]byte
	// parsed are the documents of files that were read, for those who look for the
	// place of a finding.
	parsed map[string][]document
	// refused is an error that kustomize would not pass on as it is.
	refused error
	// clones are what kustomize has fetched; nil when it may not.
	clones *clones
}

var _ filesys.FileSystem = (*readOnly)(nil)

var errReadOnly = errors.New("the repository is read-only here")

func newReadOnly(tree *Tree) *readOnly {
	r := &readOnly{tree: tree, replaced: map[string][]byte{}, read: map[string][]byte{}, parsed: map[string][]document{}}
	if tree.AllowRemote {
		r.clones = newClones()
	}
	return r
}

// relative takes a path in kustomize's words to one of the tree's.
func relative(name string) string {
	return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
}

func isKustomizationFile(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(name))
}

// ReadFile returns the content of a file.
func (r *readOnly) ReadFile(name string) ([]byte, error) {
	if clone, within := r.clones.find(name); clone != nil {
		data, err := readBounded(clone.Open(within))
		if err == nil {
			err = refuseEndless(name, data)
			r.read[name] = data
		}
		return data, err
	}
	name = relative(name)
	data, err := r.tree.ReadFile(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.refuse(err)
		}
		return nil, err
	}
	if err := refuseEndless(name, data); err != nil {
		r.refuse(err)
		return nil, err
	}
	if r.clones == nil && (isKustomizationFile(name) || bytes.Contains(data, []byte("builtin"))) {
		if err := refuseRemote(name, data); err != nil {
			r.refuse(err)
			return nil, err
		}
	}
	r.read[name] = data
	if instead, ok := r.replaced[name]; ok {
		return instead, nil
	}
	return data, nil
}

func (r *readOnly) refuse(err error) {
	if r.refused == nil {
		r.refused = err
	}
}

// CleanedAbs splits a path into a directory and a file.
func (r *readOnly) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	if clone, within := r.clones.find(name); clone != nil {
		return cleanedIn(clone, within)
	}
	rel := relative(name)
	if r.tree.dirs[rel] {
		return filesys.ConfirmedDir("/" + rel), "", nil
	}
	if _, ok := r.tree.files[rel]; ok {
		dir, file := path.Split("/" + rel)
		return filesys.ConfirmedDir(path.Clean(dir)), file, nil
	}
	if why := r.tree.whyAbsent(rel); why != "" {
		r.refuse(fmt.Errorf("%s %s", rel, why))
	}
	return "", "", fmt.Errorf("%s: %w", rel, fs.ErrNotExist)
}

// IsDir reports whether there is such a directory.
func (r *readOnly) IsDir(name string) bool {
	if clone, within := r.clones.find(name); clone != nil {
		info, err := clone.Stat(within)
		return err == nil && info.IsDir()
	}
	return r.tree.dirs[relative(name)]
}

// Exists reports whether there is such a file or directory.
func (r *readOnly) Exists(name string) bool {
	if clone, within := r.clones.find(name); clone != nil {
		_, err := clone.Stat(within)
		return err == nil
	}
	rel := relative(name)
	_, ok := r.tree.files[rel]
	return ok || r.tree.dirs[rel]
}

// ReadDir lists the names in a directory.
func (r *readOnly) ReadDir(name string) ([]string, error) {
	rel := relative(name)
	if !r.tree.dirs[rel] {
		return nil, &fs.PathError{Op: "readdir", Path: rel, Err: fs.ErrNotExist}
	}
	var out []string
	for _, file := range r.tree.Below(rel) {
		child, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(file, rel), "/"), "/")
		// In the order of the files what is in one folder stands together.
		if len(out) == 0 || out[len(out)-1] != child {
			out = append(out, child)
		}
	}
	return out, nil
}

// Glob lists the files whose paths match.
func (r *readOnly) Glob(pattern string) ([]string, error) {
	var out []string
	for _, file := range r.tree.Below("") {
		ok, err := path.Match(relative(pattern), file)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, "/"+file)
		}
	}
	return out, nil
}

// Create is refused.
func (r *readOnly) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Open is refused: kustomize reads whole files.
func (r *readOnly) Open(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir is refused.
func (r *readOnly) Mkdir(string) error { return errReadOnly }

// MkdirAll is refused.
func (r *readOnly) MkdirAll(string) error { return errReadOnly }

// RemoveAll takes away what kustomize has fetched; anything else is refused.
func (r *readOnly) RemoveAll(name string) error {
	if clone, within := r.clones.find(name); clone != nil && within == "." {
		return r.clones.remove(name)
	}
	return errReadOnly
}

// WriteFile is refused.
func (r *readOnly) WriteFile(string, []byte) error { return errReadOnly }

// Walk is refused: no build walks.
func (r *readOnly) Walk(string, filepath.WalkFunc) error { return errReadOnly }
