package gitops

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// History is what a clone of a repository knows of its commits.
type History struct {
	repo *git.Repository
	dir  string
}

// Commit is one commit.
type Commit struct {
	Hash    string    `json:"hash"`
	Subject string    `json:"subject,omitempty"`
	Author  string    `json:"author,omitempty"`
	Email   string    `json:"email,omitempty"`
	Time    time.Time `json:"time"`
}

// ErrUnknownCommit tells that a clone does not have a commit: it was never fetched, or the
// clone is shallow.
var ErrUnknownCommit = errors.New("the clone does not have this commit")

// OpenHistory opens the repository that dir lies in.
func OpenHistory(dir string) (*History, error) {
	repo, _, err := repositoryOf(dir)
	if err != nil {
		return nil, err
	}
	return &History{repo: repo, dir: dir}, nil
}

// Commit finds the commit of a revision: a branch, a tag, a hash or the beginning of one.
func (h *History) Commit(revision string) (Commit, error) {
	hash, err := h.repo.ResolveRevision(plumbing.Revision(revision))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		if revision == string(plumbing.HEAD) {
			return Commit{}, fmt.Errorf("the repository of %s has no commit yet", h.dir)
		}
		return Commit{}, fmt.Errorf("the repository of %s has no revision %q: %w", h.dir, revision, ErrUnknownCommit)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("resolve revision %q: %w", revision, err)
	}
	c, err := h.repo.CommitObject(*hash)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return Commit{}, fmt.Errorf("commit %s: %w", hash, ErrUnknownCommit)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("read commit %s: %w", hash, err)
	}
	subject, _, _ := strings.Cut(c.Message, "\n")
	return Commit{Hash: c.Hash.String(), Subject: subject, Author: c.Author.Name, Email: c.Author.Email, Time: c.Author.When}, nil
}

// Contains reports whether a commit is another one or among those before it. What can't
// be told, since the clone lacks one of the two or what lies between, is ErrUnknownCommit.
func (h *History) Contains(commit, in string) (bool, error) {
	if commit == in {
		return true, nil
	}
	var both [2]*object.Commit
	for i, hash := range []string{commit, in} {
		c, err := h.repo.CommitObject(plumbing.NewHash(hash))
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return false, fmt.Errorf("commit %s: %w", hash, ErrUnknownCommit)
		}
		if err != nil {
			return false, fmt.Errorf("read commit %s: %w", hash, err)
		}
		both[i] = c
	}
	found, err := both[0].IsAncestor(both[1])
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, fmt.Errorf("what lies between %s and %s: %w", commit, in, ErrUnknownCommit)
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s contains %s: %w", in, commit, err)
	}
	return found, nil
}

// KnownRemote is a remote as a clone has it.
type KnownRemote struct {
	Name string
	URLs []string
}

// Remotes of the clone, by name.
func (h *History) Remotes() ([]KnownRemote, error) {
	all, err := h.repo.Remotes()
	if err != nil {
		return nil, fmt.Errorf("list the remotes of %s: %w", h.dir, err)
	}
	out := make([]KnownRemote, 0, len(all))
	for _, r := range all {
		out = append(out, KnownRemote{Name: r.Config().Name, URLs: r.Config().URLs})
	}
	slices.SortFunc(out, func(a, b KnownRemote) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Tracked is the commit that a branch of a remote had when it was last fetched from or
// pushed to; empty when the clone does not follow the branch.
func (h *History) Tracked(remote, branch string) (string, error) {
	ref, err := h.repo.Reference(plumbing.NewRemoteReferenceName(remote, branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read branch %s of remote %s: %w", branch, remote, err)
	}
	return ref.Hash().String(), nil
}

// scpLike is user@host:path, as Git takes it for ssh.
var scpLike = regexp.MustCompile(`^(?:[^@/]+@)?([^:/]+):(.*)$`)

// SameRepository reports whether two URLs are of one repository, whichever protocol and
// user they name.
func SameRepository(a, b string) bool {
	x, y := repositoryName(a), repositoryName(b)
	return x != "/" && x == y
}

// repositoryName is what is left of a URL when all that may differ is gone.
func repositoryName(text string) string {
	host, path := "", ""
	if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
		host, path = u.Hostname(), u.Path
		if port := u.Port(); port != "" && port != map[string]string{"https": "443", "http": "80", "ssh": "22"}[u.Scheme] {
			host += ":" + port
		}
	} else if parts := scpLike.FindStringSubmatch(text); parts != nil {
		host, path = parts[1], parts[2]
	} else {
		path = text
	}
	return strings.ToLower(host) + "/" + strings.TrimSuffix(strings.Trim(path, "/"), ".git")
}
