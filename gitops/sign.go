package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// sign signs a commit as git would: with the format, program and key of the
// configuration. The key stays with the program.
// https://git-scm.com/docs/gitformat-signature
func (s settings) sign(ctx context.Context, commit *object.Commit) error {
	unsigned := &plumbing.MemoryObject{}
	if err := commit.EncodeWithoutSignature(unsigned); err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	reader, err := unsigned.Reader()
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	payload, err := io.ReadAll(reader)
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	var signature []byte
	switch format := first(strings.ToLower(s.get("gpg.format")), "openpgp"); format {
	case "openpgp":
		signature, err = s.signOpenPGP(ctx, payload, commit.Committer)
	case "ssh":
		signature, err = s.signSSH(ctx, payload)
	default:
		err = fmt.Errorf("gpg.format %q is not known here: there are openpgp and ssh", format)
	}
	commit.PGPSignature = string(signature)
	return err
}

func (s settings) signOpenPGP(ctx context.Context, payload []byte, committer object.Signature) ([]byte, error) {
	program := first(s.get("gpg.openpgp.program"), s.get("gpg.program"), "gpg")
	key := first(s.get("user.signingkey"), fmt.Sprintf("%s <%s>", committer.Name, committer.Email))
	signature, said, err := runSigner(ctx, payload, program, "--status-fd=2", "-bsau", key)
	if err != nil {
		return nil, err
	}
	// gpg may end well without a signature.
	if !strings.Contains(said, "\n[GNUPG:] SIG_CREATED ") {
		return nil, fmt.Errorf("%s made no signature: %s", program, lastLine(said))
	}
	return signature, nil
}

func (s settings) signSSH(ctx context.Context, payload []byte) ([]byte, error) {
	program := first(s.get("gpg.ssh.program"), "ssh-keygen")
	key := s.get("user.signingkey")
	if key == "" {
		return nil, errors.New("user.signingKey is not set: git config user.signingKey FILE says which SSH key")
	}
	arguments := []string{"-Y", "sign", "-n", "git", "-f"}
	literal, isLiteral := strings.CutPrefix(key, "key::")
	if isLiteral || strings.HasPrefix(key, "ssh-") {
		// The public key itself; the agent has the other half.
		folder, err := os.MkdirTemp("", "fleet-signing-")
		if err != nil {
			return nil, fmt.Errorf("write the public key for %s: %w", program, err)
		}
		defer os.RemoveAll(folder)
		file := filepath.Join(folder, "key.pub")
		if err := os.WriteFile(file, []byte(literal+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("write the public key for %s: %w", program, err)
		}
		arguments = append(arguments, file, "-U")
	} else {
		file, err := homePath(key)
		if err != nil {
			return nil, err
		}
		arguments = append(arguments, file)
	}
	signature, _, err := runSigner(ctx, payload, program, arguments...)
	return signature, err
}

// runSigner gives a program what is to be signed; the signature is on its stdout.
func runSigner(ctx context.Context, payload []byte, program string, arguments ...string) (signature []byte, said string, err error) {
	path, err := homePath(program)
	if err != nil {
		return nil, "", err
	}
	var out, talk bytes.Buffer
	talk.WriteString("\n")
	cmd := exec.CommandContext(ctx, path, arguments...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(payload), &out, &talk
	if err := cmd.Run(); err != nil {
		return nil, "", fmt.Errorf("%s: %w: %s", program, err, lastLine(talk.String()))
	}
	if out.Len() == 0 {
		return nil, "", fmt.Errorf("%s made no signature: %s", program, lastLine(talk.String()))
	}
	return out.Bytes(), talk.String(), nil
}
