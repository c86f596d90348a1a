package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// settings are Git's configuration as it holds in a repository: section and key in
// lower case, values in the order in which they are read.
type settings map[string][]string

// readSettings asks git, which follows includes and conditions such as
// includeIf "gitdir:…"; without it the files are read that go-git knows.
func readSettings(ctx context.Context, repo *git.Repository, dir string) (settings, error) {
	cmd := exec.CommandContext(ctx, "git", "config", "--list", "-z")
	cmd.Dir = dir
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return settingsWithoutGit(repo)
	}
	if err != nil {
		return nil, fmt.Errorf("read Git's configuration: %w", explainExit(err))
	}
	read := settings{}
	for _, entry := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		key, value, set := strings.Cut(entry, "\n")
		if !set {
			value = "true" // a key alone
		}
		read[key] = append(read[key], value)
	}
	return read, nil
}

func settingsWithoutGit(repo *git.Repository) (settings, error) {
	read := settings{}
	for _, load := range []func() (*config.Config, error){
		func() (*config.Config, error) { return config.LoadConfig(config.SystemScope) },
		func() (*config.Config, error) { return config.LoadConfig(config.GlobalScope) },
		repo.Config,
	} {
		scope, err := load()
		if err != nil {
			return nil, fmt.Errorf("read Git's configuration: %w", err)
		}
		for _, section := range scope.Raw.Sections {
			name := strings.ToLower(section.Name) + "."
			for _, option := range section.Options {
				read[name+strings.ToLower(option.Key)] = append(read[name+strings.ToLower(option.Key)], option.Value)
			}
			for _, sub := range section.Subsections {
				for _, option := range sub.Options {
					key := name + sub.Name + "." + strings.ToLower(option.Key)
					read[key] = append(read[key], option.Value)
				}
			}
		}
	}
	return read, nil
}

// get is the last value of a key; empty when it is not set.
func (s settings) get(key string) string {
	if values := s[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// is reports whether a key is set and true in Git's words.
func (s settings) is(key string) bool {
	switch strings.ToLower(s.get(key)) {
	case "true", "yes", "on", "1":
		return true
	}
	return false
}

// first is the first of the values that is not empty.
func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// signatures say who writes a commit and who makes it, as git takes it from
// environment and configuration; it guesses nobody.
func (s settings) signatures(getenv func(string) string, now time.Time) (author, committer object.Signature, err error) {
	for role, into := range map[string]*object.Signature{"author": &author, "committer": &committer} {
		upper := "GIT_" + strings.ToUpper(role)
		*into = object.Signature{
			Name:  clean(first(getenv(upper+"_NAME"), s.get(role+".name"), s.get("user.name"))),
			Email: clean(first(getenv(upper+"_EMAIL"), s.get(role+".email"), s.get("user.email"), getenv("EMAIL"))),
			When:  now,
		}
		if into.Name == "" || into.Email == "" {
			err = errors.New(`git does not know who you are: git config --global user.name "…" and git config --global user.email "…" tell it`)
		}
	}
	return author, committer, err
}

// clean takes out what would end a name or address in a commit.
func clean(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '<' || r == '>' || r == '\n' || r == '\r' || r == 0 {
			return -1
		}
		return r
	}, text))
}

// explainExit adds to the end of a program what it said on stderr.
func explainExit(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, lastLine(string(exit.Stderr)))
	}
	return err
}

// lastLine is where programs say why they end.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// homePath is a path of the configuration, where ~/ is the home folder.
func homePath(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, "~/")
	if !ok {
		return name, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return filepath.Join(home, rest), nil
}
