package gitops

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/diff"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
	"github.com/go-git/go-git/v5/storage/transactional"
)

// Draft is a commit that is not made yet. Its objects are in memory alone: nothing
// is written until Commit.
type Draft struct {
	branch *Branch
	// files are what they will hold, nil for one that goes; all others, with their
	// links, modes and submodules, stay as they are.
	files map[string][]byte
	// blobs are the hashes of files before and after; zero where there is none.
	blobs   map[string]blobChange
	objects *transactional.ObjectStorage
	tree    plumbing.Hash
}

type blobChange struct {
	before, after plumbing.Hash
	mode          filemode.FileMode
}

// Draft prepares a commit that changes files; nil removes one.
func (b *Branch) Draft(files map[string][]byte) (*Draft, error) {
	d := &Draft{branch: b, files: files, blobs: map[string]blobChange{}}
	d.objects = transactional.NewObjectStorage(b.store, memory.NewStorage())
	tree, err := d.write(b.base.TreeHash, "", slices.Sorted(maps.Keys(files)))
	if err != nil {
		return nil, err
	}
	if tree == b.base.TreeHash {
		return nil, errors.New("the commit would change nothing")
	}
	d.tree = tree
	return d, nil
}

// Files are the paths that change, in order.
func (d *Draft) Files() []string { return slices.Sorted(maps.Keys(d.files)) }

// write makes the tree of a folder anew, with the files that change in it; zero
// when nothing is left in it.
func (d *Draft) write(hash plumbing.Hash, folder string, names []string) (plumbing.Hash, error) {
	tree := &object.Tree{}
	if !hash.IsZero() {
		var err error
		if tree, err = object.GetTree(d.objects, hash); err != nil {
			return plumbing.ZeroHash, fmt.Errorf("read the tree of %s: %w", folder, err)
		}
	}
	entries := map[string]object.TreeEntry{}
	for _, entry := range tree.Entries {
		entries[entry.Name] = entry
	}
	below := map[string][]string{}
	for _, name := range names {
		rest := strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
		child, _, _ := strings.Cut(rest, "/")
		below[child] = append(below[child], name)
	}
	for child, names := range below {
		place := path.Join(folder, child)
		entry, exists := entries[child]
		var err error
		if len(names) == 1 && names[0] == place {
			entry, err = d.writeFile(place, entry, exists)
		} else {
			entry, err = d.writeFolder(place, entry, exists, names)
		}
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if entry.Hash.IsZero() {
			delete(entries, child)
			continue
		}
		entry.Name = child
		entries[child] = entry
	}
	if len(entries) == 0 {
		return plumbing.ZeroHash, nil
	}
	sorted := object.TreeEntrySorter(slices.Collect(maps.Values(entries)))
	sort.Sort(sorted)
	return d.store(&object.Tree{Entries: sorted})
}

func (d *Draft) writeFile(name string, entry object.TreeEntry, exists bool) (object.TreeEntry, error) {
	if exists && !entry.Mode.IsRegular() && entry.Mode != filemode.Executable && entry.Mode != filemode.Deprecated {
		return entry, fmt.Errorf("%s is no file in commit %s, but a link, folder or submodule", name, short(d.branch.base.Hash))
	}
	if !exists {
		entry.Mode = filemode.Regular
	}
	change := blobChange{before: entry.Hash, mode: entry.Mode}
	entry.Hash = plumbing.ZeroHash
	if data := d.files[name]; data != nil {
		blob := d.objects.NewEncodedObject()
		blob.SetType(plumbing.BlobObject)
		w, err := blob.Writer()
		if err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			entry.Hash, err = d.objects.SetEncodedObject(blob)
		}
		if err != nil {
			return entry, fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	change.after = entry.Hash
	d.blobs[name] = change
	return entry, nil
}

func (d *Draft) writeFolder(name string, entry object.TreeEntry, exists bool, names []string) (object.TreeEntry, error) {
	if exists && entry.Mode != filemode.Dir {
		return entry, fmt.Errorf("%s is no folder in commit %s", name, short(d.branch.base.Hash))
	}
	hash, err := d.write(entry.Hash, name, names)
	return object.TreeEntry{Mode: filemode.Dir, Hash: hash}, err
}

// encodable is a tree or a commit.
type encodable interface {
	Encode(plumbing.EncodedObject) error
}

func (d *Draft) store(o encodable) (plumbing.Hash, error) {
	encoded := d.objects.NewEncodedObject()
	if err := o.Encode(encoded); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("encode for Git: %w", err)
	}
	return d.objects.SetEncodedObject(encoded)
}

// Diff writes what the commit changes, as git diff does.
func (d *Draft) Diff(w io.Writer, colored bool) error {
	before, err := object.GetTree(d.objects, d.branch.base.TreeHash)
	if err != nil {
		return fmt.Errorf("read the tree of commit %s: %w", short(d.branch.base.Hash), err)
	}
	after, err := object.GetTree(d.objects, d.tree)
	if err != nil {
		return fmt.Errorf("read the tree of the commit: %w", err)
	}
	changes, err := object.DiffTree(before, after)
	if err != nil {
		return fmt.Errorf("compare with commit %s: %w", short(d.branch.base.Hash), err)
	}
	sort.Sort(changes)
	patch, err := changes.Patch()
	if err != nil {
		return fmt.Errorf("compare with commit %s: %w", short(d.branch.base.Hash), err)
	}
	encoder := diff.NewUnifiedEncoder(w, diff.DefaultContextLines)
	if colored {
		encoder.SetColor(diff.NewColorConfig())
	}
	return encoder.Encode(patch)
}

// short is a hash as people write it.
func short(hash plumbing.Hash) string { return hash.String()[:7] }
