package gitops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// CommitOptions say how a Draft is committed.
type CommitOptions struct {
	Message string
	// Sign asks for a signature, also where commit.gpgSign does not.
	Sign bool
	// Getenv reads the environment.
	Getenv func(string) string
	Now    time.Time
}

// Commit makes the commit and moves the branch on to it, as long as the branch still
// is where it was when it was opened. Where the working tree shows the branch, the
// files that change are written there and into the index, all others stay as they
// are. After an error everything is as it was.
func (d *Draft) Commit(ctx context.Context, o CommitOptions) (string, error) {
	commit, err := d.commit(ctx, o)
	if err != nil {
		return "", err
	}
	hash, err := d.store(commit)
	if err != nil {
		return "", err
	}
	release, err := d.branch.lock()
	if err != nil {
		return "", err
	}
	defer release()
	if err := d.branch.unmoved(); err != nil {
		return "", err
	}
	undo := func() error { return nil }
	if d.branch.checkedOut {
		checkout, err := d.checkout()
		if err != nil {
			return "", err
		}
		defer checkout.close()
		if err := d.objects.Commit(); err != nil {
			return "", fmt.Errorf("store the commit: %w", err)
		}
		if err := checkout.write(); err != nil {
			return "", err
		}
		undo = checkout.undo
	} else if err := d.objects.Commit(); err != nil {
		return "", fmt.Errorf("store the commit: %w", err)
	}
	// The last step: from here on it is done.
	if err := d.branch.moveTo(hash); err != nil {
		return "", errors.Join(err, undo())
	}
	d.branch.noteMove(hash, commit)
	return hash.String(), nil
}

func (d *Draft) commit(ctx context.Context, o CommitOptions) (*object.Commit, error) {
	author, committer, err := d.branch.settings.signatures(o.Getenv, o.Now)
	if err != nil {
		return nil, err
	}
	message := strings.TrimSpace(o.Message)
	if message == "" {
		return nil, errors.New("the commit's message is empty")
	}
	commit := &object.Commit{
		Author: author, Committer: committer, Message: message + "\n",
		TreeHash: d.tree, ParentHashes: []plumbing.Hash{d.branch.base.Hash},
	}
	if o.Sign || d.branch.settings.is("commit.gpgsign") {
		if err := d.branch.settings.sign(ctx, commit); err != nil {
			return nil, fmt.Errorf("sign the commit: %w", err)
		}
	}
	return commit, nil
}

// lock keeps git from moving the branch, as git's own commands do it, until it is
// moved or released.
func (b *Branch) lock() (release func(), err error) {
	files := b.store.Filesystem()
	name := b.reference().String() + ".lock"
	if err := files.MkdirAll(path.Dir(name), 0o777); err != nil {
		return nil, fmt.Errorf("make the folder of branch %s: %w", b.Name, err)
	}
	file, err := files.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("branch %s is being changed by somebody else (there is %s)", b.Name, name)
	}
	if err != nil {
		return nil, fmt.Errorf("lock branch %s: %w", b.Name, err)
	}
	_ = file.Close() // nothing has been written
	b.locked = true
	return func() {
		// After moveTo one that is there is somebody else's.
		if b.locked {
			_ = files.Remove(name)
		}
		b.locked = false
	}, nil
}

// unmoved makes sure that the branch is where it was when it was opened, and that
// the working tree still shows what it showed.
func (b *Branch) unmoved() error {
	now, err := b.store.Reference(b.reference())
	switch {
	case errors.Is(err, plumbing.ErrReferenceNotFound) && b.tip.IsZero():
	case errors.Is(err, plumbing.ErrReferenceNotFound):
		return fmt.Errorf("branch %s has been removed meanwhile; nothing is changed", b.Name)
	case err != nil:
		return fmt.Errorf("read branch %s: %w", b.Name, err)
	case now.Hash() != b.tip:
		return fmt.Errorf("branch %s has moved meanwhile, to %s; nothing is changed: try again", b.Name, short(now.Hash()))
	}
	head, err := b.store.Reference(plumbing.HEAD)
	if err != nil {
		return fmt.Errorf("read HEAD: %w", err)
	}
	if shown := head.Type() == plumbing.SymbolicReference && head.Target() == b.reference(); shown != b.checkedOut {
		return fmt.Errorf("another branch has been checked out meanwhile; nothing is changed: try again")
	}
	return nil
}

// moveTo has the locked branch point to a commit: written beside and renamed, so that
// nobody sees half of it.
func (b *Branch) moveTo(hash plumbing.Hash) error {
	files := b.store.Filesystem()
	name := b.reference().String()
	file, err := files.OpenFile(name+".lock", os.O_WRONLY|os.O_TRUNC, 0o666)
	if err == nil {
		_, err = file.Write([]byte(hash.String() + "\n"))
		err = errors.Join(err, file.Close())
	}
	if err == nil {
		err = files.Rename(name+".lock", name)
	}
	if err != nil {
		return fmt.Errorf("move branch %s: %w", b.Name, err)
	}
	b.locked = false
	return nil
}
