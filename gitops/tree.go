package gitops

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

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

	files  map[string]func() ([]byte, error)
	dirs   map[string]bool
	absent map[string]string
}

func newTree(source string) *Tree {
	return &Tree{
		Source: source,
		files:  map[string]func() ([]byte, error){},
		dirs:   map[string]bool{"": true},
		absent: map[string]string{},
	}
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
		if why, ok := t.absent[name]; ok {
			return nil, fmt.Errorf("%s %s", name, why)
		}
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	data, err := read()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Below lists the files in a directory and in those below it, in order.
func (t *Tree) Below(dir string) []string {
	prefix := dir + "/"
	if dir == "" || dir == "." {
		prefix = ""
	}
	var out []string
	for name := range t.files {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
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
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, fmt.Errorf("the repository of %s has no revision %q", dir, revision)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve revision %q: %w", revision, err)
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
			return t.enter(within)
		}
		if err != nil {
			return nil, fmt.Errorf("walk the tree of commit %s: %w", hash, err)
		}
		switch entry.Mode {
		case filemode.Dir:
			t.dirs[name] = true
		case filemode.Symlink:
			t.absent[name] = symlinkAbsent
		case filemode.Submodule:
			t.absent[name] = "is a submodule, which is not rendered"
		default:
			t.addFile(name, func() ([]byte, error) {
				blob, err := repo.BlobObject(entry.Hash)
				if err != nil {
					return nil, err
				}
				return readBounded(blob.Reader())
			})
		}
	}
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
