package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// maxFileSize bounds, in bytes, what is read of one file. Manifests are small; a
// larger file in a fleet repository is something else, and is left alone until a
// kustomization refers to it.
const maxFileSize = 4 << 20

// Tree is a snapshot of the files of a fleet repository, either of its working
// tree or of a revision. Paths are relative to the repository's root and have
// slashes. Nothing outside the repository can be reached through it, and it holds
// what Flux's source-controller would put into an artifact: symbolic links are
// left out.
type Tree struct {
	// Source says in words where the files come from.
	Source string
	// Folder is where the fleet repository begins in the Git repository: the folder
	// that has overlays/. Empty when that is the root.
	Folder string
	// Opened is the folder that was asked for.
	Opened string

	// AllowRemote has kustomize fetch bases and files that lie outside the
	// repository. Its own git and HTTP client do that, with what the user may.
	AllowRemote bool

	files  map[string]func() ([]byte, error)
	dirs   map[string]bool
	absent map[string]string

	// names are those of the files, in order; they are sorted once, when somebody asks.
	names func() []string
	// contents are the files that were read. Many overlays share a base, and not
	// every source of files may be asked by two at once.
	contents map[string][]byte
	reading  sync.Mutex
}

func newTree(source string) *Tree {
	t := &Tree{
		Source:   source,
		files:    map[string]func() ([]byte, error){},
		dirs:     map[string]bool{"": true},
		absent:   map[string]string{},
		contents: map[string][]byte{},
	}
	t.names = sync.OnceValue(func() []string { return slices.Sorted(maps.Keys(t.files)) })
	return t
}

func (t *Tree) addFile(name string, read func() ([]byte, error)) {
	t.files[name] = read
	t.addParents(name)
}

func (t *Tree) addParents(name string) {
	for dir := path.Dir(name); dir != "." && !t.dirs[dir]; dir = path.Dir(dir) {
		t.dirs[dir] = true
	}
}

// ReadFile returns the content of a file.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	read, ok := t.files[name]
	if !ok {
		if why := t.whyAbsent(name); why != "" {
			return nil, fmt.Errorf("%s %s", name, why)
		}
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	data, ok := t.contents[name]
	if !ok {
		var err error
		if data, err = read(); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		t.contents[name] = data
	}
	return bytes.Clone(data), nil
}

// whyAbsent says why a file that the repository has is left out of the tree, or a
// folder that it lies in; empty when nothing is left out there.
func (t *Tree) whyAbsent(name string) string {
	for at := name; at != "." && at != ""; at = path.Dir(at) {
		why, ok := t.absent[at]
		switch {
		case ok && at == name:
			return why
		case ok:
			return fmt.Sprintf("lies in %s, which %s", at, why)
		}
	}
	return ""
}

// Below lists the files in a directory and in those below it, in order.
func (t *Tree) Below(dir string) []string {
	names := t.names()
	if dir == "" || dir == "." {
		return slices.Clone(names)
	}
	from, _ := slices.BinarySearch(names, dir+"/")
	// What follows the slash in the order of bytes.
	to, _ := slices.BinarySearch(names, dir+string(rune('/'+1)))
	return slices.Clone(names[from:to])
}

// OpenWorkingTree takes the files of the repository that dir lies in as they are
// on disk, committed or not. A fleet repository that Git does not know yet is
// taken as well: git init comes after kubectl fleet repo init.
func OpenWorkingTree(dir string) (*Tree, error) {
	place, err := workingTreeOf(dir)
	if err != nil {
		return nil, err
	}
	// os.Root refuses to follow a link out of the directory, also one that is put
	// there between the walk and the read.
	root, err := os.OpenRoot(place.root)
	if err != nil {
		return nil, fmt.Errorf("open the working tree: %w", err)
	}
	t := newTree("working tree")
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case entry.Name() == git.GitDirName:
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			if _, err := root.Lstat(path.Join(name, git.GitDirName)); err == nil {
				t.absent[name] = "is a Git repository of its own" + notDelivered
				return fs.SkipDir
			}
			t.dirs[name] = true
			return nil
		case entry.Type()&fs.ModeSymlink != 0:
			t.absent[name] = symlinkAbsent
			return nil
		case !entry.Type().IsRegular():
			t.absent[name] = "is not a regular file"
			return nil
		}
		t.addFile(name, func() ([]byte, error) { return readBounded(root.Open(filepath.FromSlash(name))) })
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk the working tree: %w", err)
	}
	t.leaveOutSubmodules()
	return t.enter(place.within)
}

const symlinkAbsent = "is a symbolic link: Flux leaves links out of what it delivers; put the file itself there"

// OpenRevision takes the files of a revision of the repository that dir lies in:
// a branch, a tag, a commit, HEAD~2. Nothing is checked out.
func OpenRevision(dir, revision string) (*Tree, error) {
	repo, within, err := repositoryOf(dir)
	if err != nil {
		return nil, err
	}
	hash, err := repo.ResolveRevision(plumbing.Revision(revision))
	if err != nil {
		return nil, noRevision(repo, dir, revision, err)
	}
	commit, err := repo.CommitObject(*hash)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	root, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("read the tree of commit %s: %w", hash, err)
	}
	t := newTree("revision " + hash.String()[:12])
	walker := object.NewTreeWalker(root, true, nil)
	defer walker.Close()
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			t.leaveOutSubmodules()
			return t.enter(within)
		}
		if err != nil {
			return nil, fmt.Errorf("walk the tree of commit %s: %w", hash, err)
		}
		t.addEntry(repo, name, entry.Mode, entry.Hash)
	}
}

// addEntry adds what Git has of a name.
func (t *Tree) addEntry(repo *git.Repository, name string, mode filemode.FileMode, hash plumbing.Hash) {
	switch mode {
	case filemode.Dir:
		t.dirs[name] = true
	case filemode.Symlink:
		t.absent[name] = symlinkAbsent
	case filemode.Submodule:
		t.absent[name] = "is a submodule" + notDelivered
	default:
		t.addFile(name, func() ([]byte, error) {
			blob, err := repo.BlobObject(hash)
			if err != nil {
				return nil, err
			}
			return readBounded(blob.Reader())
		})
	}
}

// noRevision says why a revision could not be found.
func noRevision(repo *git.Repository, dir, revision string, err error) error {
	if shallow, shallowErr := repo.Storer.Shallow(); shallowErr == nil && len(shallow) > 0 {
		return fmt.Errorf("the repository of %s has no revision %q: it is a shallow clone, git fetch --unshallow brings the rest", dir, revision)
	}
	for _, missing := range []error{plumbing.ErrReferenceNotFound, plumbing.ErrObjectNotFound, object.ErrParentNotFound, io.EOF} {
		if errors.Is(err, missing) {
			return fmt.Errorf("the repository of %s has no revision %q", dir, revision)
		}
	}
	return fmt.Errorf("resolve revision %q: %w", revision, err)
}

func readBounded(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("the file is larger than %d MiB", maxFileSize>>20)
	}
	return data, nil
}
