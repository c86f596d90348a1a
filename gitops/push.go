package gitops

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Remote is where a branch is pushed to.
type Remote struct {
	Name string
	// url has the configuration's rewrites applied.
	url string
}

// Remote finds where the branch is pushed to: the remote with that name, or else the
// one of the branch's upstream, of remote.pushDefault, of the branch that is checked
// out, origin, or the only one. There is no talk with it yet.
func (b *Branch) Remote(name string) (Remote, error) {
	configured, err := b.repo.Remotes()
	if err != nil {
		return Remote{}, fmt.Errorf("list the remotes: %w", err)
	}
	var names []string
	for _, remote := range configured {
		names = append(names, remote.Config().Name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return Remote{}, errors.New("the repository has no remote to push to: git remote add origin URL gives it one")
	}
	if name == "" {
		name = b.defaultRemote(names)
	}
	if name == "" {
		return Remote{}, fmt.Errorf("which remote? Branch %s has no upstream, and there are %s: say --remote", b.Name, strings.Join(names, ", "))
	}
	if !slices.Contains(names, name) {
		return Remote{}, fmt.Errorf("the repository has no remote %q; there are: %s", name, strings.Join(names, ", "))
	}
	where := first(b.settings.get("remote."+name+".pushurl"), b.settings.get("remote."+name+".url"))
	if where == "" {
		return Remote{}, fmt.Errorf("remote %s has no URL: git remote set-url %s URL gives it one", name, name)
	}
	return Remote{Name: name, url: b.settings.rewritten(where, b.settings.get("remote."+name+".pushurl") == "")}, nil
}

func (b *Branch) defaultRemote(names []string) string {
	current := ""
	if head, err := b.repo.Head(); err == nil && head.Name().IsBranch() {
		current = head.Name().Short()
	}
	name := first(
		b.settings.get("branch."+b.Name+".pushremote"), b.settings.get("remote.pushdefault"),
		b.settings.get("branch."+b.Name+".remote"), b.settings.get("branch."+current+".remote"))
	switch {
	case name != "" && name != ".":
		return name
	case slices.Contains(names, "origin"):
		return "origin"
	case len(names) == 1:
		return names[0]
	}
	return ""
}

// rewritten applies url.*.insteadOf, the longest that fits, and before it
// pushInsteadOf where no URL is set for pushing.
func (s settings) rewritten(where string, push bool) string {
	for _, kind := range []string{".pushinsteadof", ".insteadof"} {
		if kind == ".pushinsteadof" && !push {
			continue
		}
		longest, base := "", ""
		for key, values := range s {
			instead, ok := strings.CutSuffix(key, kind)
			if !ok || !strings.HasPrefix(key, "url.") {
				continue
			}
			for _, prefix := range values {
				if strings.HasPrefix(where, prefix) && len(prefix) > len(longest) {
					longest, base = prefix, strings.TrimPrefix(instead, "url.")
				}
			}
		}
		if longest != "" {
			return base + strings.TrimPrefix(where, longest)
		}
	}
	return where
}

// String is where the remote is, without a password.
func (r Remote) String() string {
	if parsed, err := url.Parse(r.url); err == nil && parsed.Host != "" {
		return parsed.Redacted()
	}
	return r.url
}

// Push brings the branch, and nothing else, to the remote; it never forces. The
// commit is on the local branch whatever comes of it.
func (b *Branch) Push(ctx context.Context, remote Remote, getenv func(string) string) error {
	endpoint, err := transport.NewEndpoint(remote.url)
	if err != nil {
		return fmt.Errorf("the URL of remote %s: %w", remote.Name, err)
	}
	login := &login{dir: b.root, endpoint: endpoint, url: remote.url, getenv: getenv}
	auth, err := login.known()
	if err != nil {
		return err
	}
	err = b.push(ctx, remote, auth)
	if errors.Is(err, transport.ErrAuthenticationRequired) && auth == nil && login.canAsk() {
		if auth, err = login.ask(ctx); err != nil {
			return explainPush(err)
		}
		err = b.push(ctx, remote, auth)
		// Whoever keeps the credentials learns whether they were good.
		refused := errors.Is(err, transport.ErrAuthenticationRequired) || errors.Is(err, transport.ErrAuthorizationFailed)
		login.tell(ctx, !refused)
	}
	return explainPush(err)
}

func (b *Branch) push(ctx context.Context, remote Remote, auth transport.AuthMethod) error {
	ref := b.reference()
	// Beside the repository's own object, whose URL would have the rewrites applied
	// that go-git knows of.
	at := git.NewRemote(b.store, &config.RemoteConfig{Name: remote.Name, URLs: []string{remote.url}, Fetch: []config.RefSpec{
		config.RefSpec("+refs/heads/*:refs/remotes/" + remote.Name + "/*"),
	}})
	err := at.PushContext(ctx, &git.PushOptions{
		RemoteName: remote.Name, RemoteURL: remote.url, Auth: auth,
		RefSpecs: []config.RefSpec{config.RefSpec(ref + ":" + ref)},
	})
	if errors.Is(err, git.NoErrAlreadyUpToDate) {
		return nil
	}
	return err
}

// explainPush says what to do about what go-git says.
func explainPush(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fmt.Errorf("the credentials were refused: %w", err)
	case strings.HasPrefix(text, "non-fast-forward update") || strings.Contains(text, "object not found"):
		return errors.New("the remote's branch has commits that this one lacks: fetch them, and begin again on top of them or with another --branch; it is never forced")
	case strings.HasPrefix(text, "command error on "):
		_, why, _ := strings.Cut(strings.TrimPrefix(text, "command error on "), ": ")
		return fmt.Errorf("the remote has declined it: %s", why)
	case strings.Contains(text, "knownhosts: key is unknown"):
		return fmt.Errorf("%w: the server's key is not in ~/.ssh/known_hosts; connect once with ssh, and compare it", err)
	case strings.Contains(text, "knownhosts: key mismatch"):
		return fmt.Errorf("%w: the server has another key than the one in ~/.ssh/known_hosts", err)
	}
	return err
}
