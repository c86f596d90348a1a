package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Branch is where a commit is to be made: a branch of the repository that a folder
// lies in, and the commit that the new one is made on top of.
type Branch struct {
	// Name is without refs/heads/.
	Name string
	// Tree are the files of the commit that is built upon.
	Tree *Tree

	repo     *git.Repository
	store    *filesystem.Storage
	settings settings
	// root is the working tree's folder.
	root string
	base *object.Commit
	// tip is what the branch points to; zero when there is no such branch.
	tip plumbing.Hash
	// checkedOut tells that the working tree shows the branch.
	checkedOut bool
	// locked tells that the lock on the branch is ours.
	locked bool
}

// OpenBranch finds where a commit can be made in the repository of dir: on top of
// the branch with that name where it exists, and of HEAD otherwise.
//
// With follow the branch is one that the program named, and may be left over from
// the last time: when HEAD has all of its commits, the new one is made on top of
// HEAD; when both have some of their own, that is an error.
func OpenBranch(ctx context.Context, dir, name string, follow bool) (*Branch, error) {
	repo, _, err := repositoryOf(dir)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		// A bare one has no .git by which it would be found.
		if _, bare := git.PlainOpen(dir); bare == nil {
			err = git.ErrIsBareRepository
		}
	}
	if errors.Is(err, git.ErrIsBareRepository) {
		return nil, fmt.Errorf("the repository %s is bare: make the commit in a clone of it", dir)
	}
	if err != nil {
		return nil, err
	}
	worktree, err := repo.Worktree()
	if err != nil {
		return nil, fmt.Errorf("open the working tree of %s: %w", dir, err)
	}
	store, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, fmt.Errorf("the repository of %s is not on disk", dir)
	}
	b := &Branch{Name: name, repo: repo, store: store, root: worktree.Filesystem.Root()}
	if err := b.find(follow); err != nil {
		return nil, err
	}
	if b.settings, err = readSettings(ctx, repo, b.root); err != nil {
		return nil, err
	}
	b.Tree, err = OpenRevision(dir, b.base.Hash.String())
	return b, err
}

// Base is the hash of the commit that is built upon.
func (b *Branch) Base() string { return b.base.Hash.String() }

// Exists reports whether there is such a branch already.
func (b *Branch) Exists() bool { return !b.tip.IsZero() }

// CheckedOut reports whether the branch is what the working tree shows, so that a
// commit changes files there.
func (b *Branch) CheckedOut() bool { return b.checkedOut }

func (b *Branch) reference() plumbing.ReferenceName { return plumbing.NewBranchReferenceName(b.Name) }

func (b *Branch) find(follow bool) error {
	// git is stricter with branches than with other references.
	if err := b.reference().Validate(); err != nil || strings.HasPrefix(b.Name, "-") || b.Name == "HEAD" {
		return fmt.Errorf("%q can't be the name of a branch", b.Name)
	}
	symbolic, err := b.store.Reference(plumbing.HEAD)
	if err != nil {
		return fmt.Errorf("read HEAD: %w", err)
	}
	head, err := b.repo.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return fmt.Errorf("the repository has no commit yet (%s): commit what there is first", symbolic.Target().Short())
	}
	if err != nil {
		return fmt.Errorf("read HEAD: %w", err)
	}
	b.checkedOut = symbolic.Type() == plumbing.SymbolicReference && symbolic.Target() == b.reference()
	if b.base, err = b.repo.CommitObject(head.Hash()); err != nil {
		return fmt.Errorf("read commit %s: %w", head.Hash(), err)
	}
	existing, err := b.store.Reference(b.reference())
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return b.nameIsFree()
	}
	if err != nil {
		return fmt.Errorf("read branch %s: %w", b.Name, err)
	}
	if existing.Type() != plumbing.HashReference {
		return fmt.Errorf("branch %s stands for %s: name that one", b.Name, existing.Target())
	}
	b.tip = existing.Hash()
	if !b.checkedOut {
		if err := b.notElsewhere(); err != nil {
			return err
		}
	}
	tip, err := b.repo.CommitObject(b.tip)
	if err != nil {
		return fmt.Errorf("read commit %s of branch %s: %w", b.tip, b.Name, err)
	}
	if follow {
		return b.follow(tip)
	}
	b.base = tip
	return nil
}

// follow chooses between HEAD and the branch that was left from the last time.
func (b *Branch) follow(tip *object.Commit) error {
	merged, err := tip.IsAncestor(b.base)
	if err != nil {
		return fmt.Errorf("compare branch %s with HEAD: %w", b.Name, err)
	}
	if merged {
		return nil
	}
	ahead, err := b.base.IsAncestor(tip)
	if err != nil {
		return fmt.Errorf("compare branch %s with HEAD: %w", b.Name, err)
	}
	if !ahead {
		return fmt.Errorf("branch %s and HEAD each have commits that the other lacks: name another with --branch, or when its commits are no longer needed remove it with git branch -D %s", b.Name, b.Name)
	}
	b.base = tip
	return nil
}

// nameIsFree makes sure that no branch has the name of a folder of the new one's.
func (b *Branch) nameIsFree() error {
	for parent := path.Dir(b.Name); parent != "."; parent = path.Dir(parent) {
		if _, err := b.store.Reference(plumbing.NewBranchReferenceName(parent)); err == nil {
			return fmt.Errorf("there can't be a branch %s beside branch %s: name another with --branch", b.Name, parent)
		}
	}
	all, err := b.repo.Branches()
	if err != nil {
		return fmt.Errorf("list branches: %w", err)
	}
	return all.ForEach(func(other *plumbing.Reference) error {
		if strings.HasPrefix(other.Name().Short(), b.Name+"/") {
			return fmt.Errorf("there can't be a branch %s beside branch %s: name another with --branch", b.Name, other.Name().Short())
		}
		return nil
	})
}

// notElsewhere refuses a branch that another working tree of the repository shows:
// its files would no longer be those of its HEAD.
func (b *Branch) notElsewhere() error {
	worktrees, err := b.store.Filesystem().Chroot("worktrees")
	if err != nil {
		return fmt.Errorf("look for other working trees: %w", err)
	}
	common := filepath.Dir(worktrees.Root())
	heads, err := filepath.Glob(filepath.Join(common, "worktrees", "*", "HEAD"))
	if err != nil {
		return fmt.Errorf("look for other working trees: %w", err)
	}
	for _, head := range append(heads, filepath.Join(common, "HEAD")) {
		data, err := os.ReadFile(head)
		if err == nil && strings.TrimSpace(string(data)) == "ref: "+b.reference().String() {
			return fmt.Errorf("branch %s is checked out in another working tree (%s): make the commit there", b.Name, filepath.Dir(head))
		}
	}
	return nil
}

// Branches are the names of the local branches.
func Branches(dir string) ([]string, error) {
	repo, _, err := repositoryOf(dir)
	if err != nil {
		return nil, err
	}
	all, err := repo.Branches()
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	var out []string
	err = all.ForEach(func(branch *plumbing.Reference) error {
		out = append(out, branch.Name().Short())
		return nil
	})
	return out, err
}
