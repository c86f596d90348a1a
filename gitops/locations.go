package gitops

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/go-git/go-git/v5"
)

// workingTree is where a folder lies on disk.
type workingTree struct {
	// root of the repository, absolute.
	root string
	// within is the folder's path in it, with slashes; empty for the root.
	within string
}

// workingTreeOf finds the Git repository that dir lies in, or else the fleet
// repository: the nearest folder that has overlays/.
func workingTreeOf(dir string) (workingTree, error) {
	absolute, err := resolve(dir)
	if err != nil {
		return workingTree{}, err
	}
	repo, within, err := repositoryOf(dir)
	if err == nil {
		worktree, err := repo.Worktree()
		if err != nil {
			return workingTree{}, fmt.Errorf("the repository of %s has no working tree (%w): say which revision with --rev", dir, err)
		}
		return workingTree{root: worktree.Filesystem.Root(), within: within}, nil
	}
	if !errors.Is(err, git.ErrRepositoryNotExists) {
		return workingTree{}, err
	}
	for root := absolute; ; root = filepath.Dir(root) {
		if isFolder(filepath.Join(root, overlaysFolder)) {
			return at(root, absolute)
		}
		if root == filepath.Dir(root) {
			return workingTree{}, fmt.Errorf("%s is neither in a Git repository nor in a folder that has %s/: make a fleet repository with kubectl fleet repo init", dir, overlaysFolder)
		}
	}
}

// repositoryOf finds the Git repository that dir lies in, and dir's path in it.
func repositoryOf(dir string) (*git.Repository, string, error) {
	absolute, err := resolve(dir)
	if err != nil {
		return nil, "", err
	}
	repo, err := git.PlainOpenWithOptions(absolute, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, "", fmt.Errorf("%s is not in a Git repository: %w", dir, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("open the Git repository of %s: %w", dir, err)
	}
	worktree, err := repo.Worktree()
	if errors.Is(err, git.ErrIsBareRepository) {
		return repo, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("open the Git repository of %s: %w", dir, err)
	}
	place, err := at(worktree.Filesystem.Root(), absolute)
	return repo, place.within, err
}

func at(root, dir string) (workingTree, error) {
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return workingTree{}, fmt.Errorf("find %s: %w", root, err)
	}
	within, err := filepath.Rel(resolved, dir)
	if err != nil {
		return workingTree{}, fmt.Errorf("find %s in %s: %w", dir, root, err)
	}
	return workingTree{root: resolved, within: slashed(within)}, nil
}

// slashed is a relative path in the words of a Tree.
func slashed(name string) string {
	if name = filepath.ToSlash(name); name == "." {
		return ""
	}
	return name
}

func resolve(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	absolute, err = filepath.EvalSymlinks(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no folder %s", dir)
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	if !isFolder(absolute) {
		return "", fmt.Errorf("%s is not a folder", dir)
	}
	return absolute, nil
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// enter notes the folder that was asked for, and finds where the fleet repository
// begins: there or above, at the nearest folder that has overlays/.
func (t *Tree) enter(within string) (*Tree, error) {
	if within != "" && !t.dirs[within] {
		return nil, fmt.Errorf("the %s has no folder %s", t.Source, within)
	}
	t.Opened, t.Folder = within, within
	for folder := within; ; folder = slashed(path.Dir(folder)) {
		if t.dirs[path.Join(folder, overlaysFolder)] {
			t.Folder = folder
			return t, nil
		}
		if folder == "" {
			return t, nil
		}
	}
}
