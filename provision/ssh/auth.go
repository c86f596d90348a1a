package ssh

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Identities are what a person can show to a host.
type Identities struct {
	// Agent is the socket of an SSH agent; empty for none.
	Agent string
	// Files are private keys. Those that do not exist are left out.
	Files []string
}

// MyIdentities are those that ssh itself would try, with the keys of the files before them.
func MyIdentities(getenv func(string) string, files ...string) Identities {
	i := Identities{Agent: getenv("SSH_AUTH_SOCK"), Files: files}
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			i.Files = append(i.Files, filepath.Join(home, ".ssh", name))
		}
	}
	return i
}

// MyKnownHosts are the files in which ssh itself keeps host keys.
func MyKnownHosts() []string {
	files := []string{"/etc/ssh/ssh_known_hosts"}
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".ssh", "known_hosts"))
	}
	return files
}

// signers are all keys that can be shown, and why some can't.
func (i Identities) signers() (found []ssh.Signer, closer io.Closer, problems []error) {
	if i.Agent != "" {
		conn, err := net.Dial("unix", i.Agent)
		if err == nil {
			closer = conn
			var fromAgent []ssh.Signer
			fromAgent, err = agent.NewClient(conn).Signers()
			found = append(found, fromAgent...)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("SSH agent %s: %w", i.Agent, err))
		}
	}
	for _, file := range i.Files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var signer ssh.Signer
		if err == nil {
			signer, err = ssh.ParsePrivateKey(data)
		}
		var locked *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			problems = append(problems, fmt.Errorf("key %s has a passphrase: ssh-add it to an agent", file))
		case err != nil:
			problems = append(problems, fmt.Errorf("key %s: %w", file, err))
		default:
			found = append(found, signer)
		}
	}
	return found, closer, problems
}
