package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
)

// Environment that a pipeline gives its credentials in.
const (
	tokenVariable    = "GIT_TOKEN"
	usernameVariable = "GIT_USERNAME"
)

// login finds the user's own credentials for a remote.
type login struct {
	// dir is where git reads its configuration.
	dir      string
	endpoint *transport.Endpoint
	url      string
	getenv   func(string) string
	// given is what a credential helper gave, to be told what became of it.
	given string
}

// known are the credentials that need no asking: a token in the environment, the
// user's SSH keys. It is nil where there are none, or where the URL has them.
func (l *login) known() (transport.AuthMethod, error) {
	switch l.endpoint.Protocol {
	case "http", "https":
		token := l.getenv(tokenVariable)
		if token == "" || l.endpoint.Password != "" {
			return nil, nil
		}
		// Most servers take any name with a token.
		return &http.BasicAuth{Username: first(l.getenv(usernameVariable), l.endpoint.User, "git"), Password: token}, nil
	case "ssh":
		return l.keys()
	}
	return nil, nil
}

// keys are those of the ssh agent and, as ssh has them, the identity files. The
// server's key is checked against known_hosts.
func (l *login) keys() (transport.AuthMethod, error) {
	user := first(l.endpoint.User, gitssh.DefaultSSHConfig.Get(l.endpoint.Host, "User"))
	var signers []ssh.Signer
	var why []string
	agent, err := gitssh.NewSSHAgentAuth(user)
	if err == nil {
		signers, err = agent.Callback()
		user = agent.User
	}
	if err != nil {
		why = append(why, "no ssh agent")
	}
	for _, file := range l.identities() {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var key ssh.Signer
		if err == nil {
			key, err = ssh.ParsePrivateKey(data)
		}
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			why = append(why, file+" has a passphrase: ssh-add it")
			continue
		}
		if err != nil {
			why = append(why, fmt.Sprintf("%s: %v", file, err))
			continue
		}
		signers = append(signers, key)
	}
	if len(signers) == 0 {
		return nil, fmt.Errorf("there is no SSH key to push with (%s)", strings.Join(append(why, "no key in ~/.ssh"), "; "))
	}
	return &gitssh.PublicKeysCallback{User: first(user, gitssh.DefaultUsername), Callback: func() ([]ssh.Signer, error) { return signers, nil }}, nil
}

func (l *login) identities() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	var files []string
	// The library answers ~/.ssh/identity when nothing is configured.
	if file := gitssh.DefaultSSHConfig.Get(l.endpoint.Host, "IdentityFile"); file != "" && file != "~/.ssh/identity" {
		if rest, ok := strings.CutPrefix(file, "~/"); ok {
			file = filepath.Join(home, rest)
		}
		files = append(files, file)
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		files = append(files, filepath.Join(home, ".ssh", name))
	}
	return files
}

// canAsk reports whether a credential helper may know more.
func (l *login) canAsk() bool {
	return (l.endpoint.Protocol == "http" || l.endpoint.Protocol == "https") && l.endpoint.Password == ""
}

// ask has git ask its credential helpers. It never waits at a terminal.
func (l *login) ask(ctx context.Context) (transport.AuthMethod, error) {
	out, err := l.credential(ctx, "fill", "url="+l.url+"\n\n")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w: set %s, for there is no git to ask for its credential helper", transport.ErrAuthenticationRequired, tokenVariable)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: set %s, or set up a credential helper (%v)", transport.ErrAuthenticationRequired, tokenVariable, explainExit(err))
	}
	auth := &http.BasicAuth{}
	for _, line := range strings.Split(string(out), "\n") {
		switch key, value, _ := strings.Cut(line, "="); key {
		case "username":
			auth.Username = value
		case "password":
			auth.Password = value
		}
	}
	if auth.Password == "" {
		return nil, fmt.Errorf("%w: the credential helper has no password for it", transport.ErrAuthenticationRequired)
	}
	l.given = string(out)
	return auth, nil
}

// tell lets the helper keep credentials that were good, and forget bad ones.
func (l *login) tell(ctx context.Context, good bool) {
	action := "reject"
	if good {
		action = "approve"
	}
	// The push has been decided; a helper that fails only asks again next time.
	_, _ = l.credential(ctx, action, l.given+"\n")
}

func (l *login) credential(ctx context.Context, action, input string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", "credential", action)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	cmd.Stdin = bytes.NewBufferString(input)
	return cmd.Output()
}
