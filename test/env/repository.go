package env

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Repository is a clone of the fleet's Git repository, as a platform engineer has
// it. It is changed with git, as he does.
type Repository struct {
	Dir string
	URL string
}

// git runs one git command in the clone. The person's own configuration is left
// out: a signing key or a hook of his would change what is shown.
func (r *Repository) git(ctx context.Context, args ...string) (string, error) {
	args = append([]string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"git",
	}, args...)
	return run(ctx, r.Dir, "/usr/bin/env", args...)
}

// Push commits everything in the clone and pushes it. It returns the commit.
func (r *Repository) Push(ctx context.Context, message string) (string, error) {
	for _, args := range [][]string{
		{"add", "--all"}, {"commit", "--quiet", "--message", message}, {"push", "--quiet", "--set-upstream", "origin", "main"},
	} {
		if _, err := r.git(ctx, args...); err != nil {
			return "", err
		}
	}
	commit, err := r.git(ctx, "rev-parse", "HEAD")
	return strings.TrimSpace(commit), err
}

// Edit replaces a text that a file has exactly once.
func (r *Repository) Edit(file, old, new string) error {
	path := filepath.Join(r.Dir, file)
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(raw), old); n != 1 {
		return fmt.Errorf("%s has %q %d times instead of once:\n%s", path, old, n, raw)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o644)
}

// Write writes a file of the clone.
func (r *Repository) Write(file, content string) error {
	return os.WriteFile(filepath.Join(r.Dir, file), []byte(content), 0o644)
}

// Remove deletes a file of the clone.
func (r *Repository) Remove(file string) error { return os.Remove(filepath.Join(r.Dir, file)) }
