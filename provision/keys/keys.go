// Package keys makes pairs of keys for SSH.
package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Name is the file of the private key that fleet makes for a person; the public one is
// beside it with the ending .pub, as ssh-keygen has it.
const Name = "id_ed25519"

// Pair is a pair of keys.
type Pair struct {
	// Path is the file of the private key.
	Path string
	// Public is the public key as authorized_keys has it, without a line's end.
	Public string
	Signer ssh.Signer
}

// Ensure reads the pair in a directory, and makes one where there is none. It is made
// once: whoever has its public key goes on knowing its owner.
func Ensure(dir, comment string) (Pair, error) {
	path := filepath.Join(dir, Name)
	pair, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path, comment); err != nil {
			return Pair{}, fmt.Errorf("make an SSH key: %w", err)
		}
		return Read(path)
	}
	return pair, err
}

// Read reads the pair whose private key is in a file. The public key follows from it, so
// that a .pub of something else beside it can do no harm.
func Read(path string) (Pair, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Pair{}, fmt.Errorf("read SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return Pair{}, fmt.Errorf("SSH key %s: %w", path, err)
	}
	return Pair{Path: path, Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), Signer: signer}, nil
}

// create writes a pair. Of two that do so at the same time one wins, and both use its key.
func create(path, comment string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, "."+Name+"-") // readable by its owner alone
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(pem.EncodeToMemory(block))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link does not replace what somebody else has just made.
	if err := os.Link(temporary.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment + "\n"
	return os.WriteFile(path+".pub", []byte(line), 0o600)
}
