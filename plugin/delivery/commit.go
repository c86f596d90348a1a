package delivery

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/rollout"
)

// wholeHash is a commit by its whole name, which means the same everywhere.
var wholeHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// clone is what the clone that a command runs in knows; there may be none.
type clone struct {
	history *gitops.History
	remotes []gitops.KnownRemote
	// behind has commits that the cluster has and the clone does not know.
	behind map[string]bool
}

// openClone opens the clone that dir lies in.
func openClone(dir string) (*clone, error) {
	h, err := gitops.OpenHistory(dir)
	if err != nil {
		return nil, err
	}
	remotes, err := h.Remotes()
	return &clone{history: h, remotes: remotes, behind: map[string]bool{}}, err
}

// resolve finds a commit. A whole hash is one also where no clone knows it.
func resolve(dir, revision string) (gitops.Commit, *clone, error) {
	c, err := openClone(dir)
	if err != nil {
		if wholeHash.MatchString(revision) {
			return gitops.Commit{Hash: revision}, nil, nil
		}
		return gitops.Commit{}, nil, fmt.Errorf("which commit? %w (or give the whole hash with --commit)", err)
	}
	commit, err := c.history.Commit(revision)
	if errors.Is(err, gitops.ErrUnknownCommit) && wholeHash.MatchString(revision) {
		return gitops.Commit{Hash: revision}, c, nil
	}
	return commit, c, err
}

// describe is a commit with what the clone knows of it.
func (c *clone) describe(hash string) gitops.Commit {
	if c != nil {
		if commit, err := c.history.Commit(hash); err == nil {
			return commit
		}
	}
	return gitops.Commit{Hash: hash}
}

// carries reports whether a commit is another one or comes after it, as far as the clone
// knows.
func (c *clone) carries(wanted, commit string) bool {
	if commit == wanted || c == nil {
		return commit == wanted
	}
	found, err := c.history.Contains(wanted, commit)
	if err != nil {
		c.behind[commit] = true
	}
	return found
}

// fetches reports whether a source fetches what the clone is a clone of. Without a clone
// each may.
func (c *clone) fetches(s *sourcev1.GitRepository) bool { return c == nil || len(c.remotesOf(s)) > 0 }

func (c *clone) remotesOf(s *sourcev1.GitRepository) []gitops.KnownRemote {
	var out []gitops.KnownRemote
	for _, r := range c.remotes {
		for _, url := range r.URLs {
			if gitops.SameRepository(url, s.Spec.URL) {
				out = append(out, r)
				break
			}
		}
	}
	return out
}

// published is why a source can't get a commit: no remote that it fetches from has it on
// the branch that is followed. Nil is that one has, or that the clone does not know.
func (c *clone) published(s *sourcev1.GitRepository, commit string) error {
	if c == nil || s.Spec.Reference != nil && s.Spec.Reference.Branch == "" {
		return nil
	}
	branch := flux.RefOf(s)
	var where []string
	for _, r := range c.remotesOf(s) {
		tracked, err := c.history.Tracked(r.Name, branch)
		if err != nil || tracked == "" {
			return nil
		}
		if found, err := c.history.Contains(commit, tracked); err != nil || found {
			return nil
		}
		where = append(where, r.Name)
	}
	if len(where) == 0 {
		return nil
	}
	return fmt.Errorf("commit %s is not on branch %s of %s, as far as this clone knows; Flux follows that branch", rollout.ShortCommit(commit), branch, strings.Join(where, ", "))
}

// urls of the remotes, for people.
func (c *clone) urls() string {
	var out []string
	for _, r := range c.remotes {
		out = append(out, r.URLs...)
	}
	if len(out) == 0 {
		return "it has no remote"
	}
	return strings.Join(out, ", ")
}
