package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// UnknownHostError tells that nobody has said yet which key a host has.
type UnknownHostError struct {
	Host, KeyType, Fingerprint string
}

// Error says how to accept the key.
func (e *UnknownHostError) Error() string {
	return fmt.Sprintf("the key of host %s is not known: it shows %s %s. Compare that with what the host's own screen says (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub); then --accept-host-key %s", e.Host, e.KeyType, e.Fingerprint, e.Fingerprint)
}

// WrongHostKeyError tells that a host has another key than the one that is known.
type WrongHostKeyError struct {
	Host, Fingerprint string
	Known             []knownhosts.KnownKey
}

// Error says where the known key is.
func (e *WrongHostKeyError) Error() string {
	var where []string
	for _, k := range e.Known {
		where = append(where, fmt.Sprintf("%s in %s, line %d", ssh.FingerprintSHA256(k.Key), k.Filename, k.Line))
	}
	return fmt.Sprintf("host %s shows the key %s, and not the one that is known (%s). Either somebody is between you and the host, or it was set up anew: in that case remove the line", e.Host, e.Fingerprint, strings.Join(where, "; "))
}

// hostKeys decides whether a host is the one that it should be.
type hostKeys struct {
	host string
	// known checks against the files that there are.
	known ssh.HostKeyCallback
	// accept is the fingerprint that somebody has compared, and own the file that keeps the
	// key then.
	accept, own string
}

// newHostKeys reads the files with known keys. Those that do not exist count as empty.
func newHostKeys(a Address, files []string, own, accept string) (*hostKeys, error) {
	if accept != "" && !strings.HasPrefix(accept, "SHA256:") {
		return nil, fmt.Errorf("--accept-host-key %q: a fingerprint begins with SHA256:, as ssh-keygen -l prints it", accept)
	}
	var there []string
	for _, f := range append(slices.Clone(files), own) {
		_, err := os.Stat(f)
		switch {
		case f == "", errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("read known host keys: %w", err)
		default:
			there = append(there, f)
		}
	}
	known, err := knownhosts.New(there...)
	if err != nil {
		return nil, fmt.Errorf("read known host keys: %w", err)
	}
	return &hostKeys{host: a.dial(), known: known, accept: accept, own: own}, nil
}

// check is called with the key that the host has shown and proved to have.
func (k *hostKeys) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	err := k.known(k.host, remote, key)
	var wrong *knownhosts.KeyError
	fingerprint := ssh.FingerprintSHA256(key)
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &wrong):
		return fmt.Errorf("host %s: %w", k.host, err)
	case len(wrong.Want) > 0:
		return &WrongHostKeyError{Host: k.host, Fingerprint: fingerprint, Known: wrong.Want}
	case k.accept != fingerprint:
		return &UnknownHostError{Host: k.host, KeyType: key.Type(), Fingerprint: fingerprint}
	}
	return k.remember(key)
}

func (k *hostKeys) remember(key ssh.PublicKey) error {
	if k.own == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(k.own), 0o700); err != nil {
		return fmt.Errorf("keep the key of host %s: %w", k.host, err)
	}
	f, err := os.OpenFile(k.own, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep the key of host %s: %w", k.host, err)
	}
	_, err = fmt.Fprintln(f, knownhosts.Line([]string{k.host}, key))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the key of host %s: %w", k.host, err)
	}
	return nil
}

// algorithms are those of the keys that are known of the host; nil when none is. Without
// this a host that has several keys could show one of a kind that nobody has seen yet, and
// pass for another host.
func (k *hostKeys) algorithms() []string {
	var wrong *knownhosts.KeyError
	if err := k.known(k.host, &net.TCPAddr{IP: net.IPv4zero, Port: defaultPort}, noKey{}); !errors.As(err, &wrong) {
		return nil
	}
	var all []string
	for _, known := range wrong.Want {
		switch t := known.Key.Type(); t {
		case ssh.KeyAlgoRSA:
			all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			all = append(all, t)
		}
	}
	return all
}

// noKey is a key that no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key verifies nothing") }
