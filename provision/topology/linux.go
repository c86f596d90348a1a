// Package topology holds what is provisioned, as types for what has been seen to.
//
// A LinuxHost is a machine with Linux of which nothing more is known. A KVMHost is one on
// which libvirt answers, and there is no way to have one but from a LinuxHost that was
// prepared, or looked at: a function that takes a *KVMHost can't be called for a host that
// nobody has seen to, because that does not compile.
package topology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/ssh"
)

// LinuxHost is a machine with Linux, this one or another.
type LinuxHost struct {
	command.Runner
	// remote is nil for this machine.
	remote *ssh.Client

	mu   sync.Mutex
	boot string
}

// Local is this machine.
func Local() *LinuxHost { return &LinuxHost{Runner: command.Local{}} }

// Remote is the machine at the other end of a connection.
func Remote(client *ssh.Client) *LinuxHost { return &LinuxHost{Runner: client, remote: client} }

// LocalWord is what people write for this machine.
const LocalWord = "local"

// Reach reaches the host that text names: "local", or ssh://user@host[:port].
func Reach(ctx context.Context, text string, o ssh.Options) (*LinuxHost, error) {
	if text == LocalWord {
		return Local(), nil
	}
	address, err := ssh.ParseAddress(text)
	if err != nil {
		return nil, fmt.Errorf("%w, and this machine as %s", err, LocalWord)
	}
	client, err := ssh.Dial(ctx, address, o)
	if err != nil {
		return nil, err
	}
	return Remote(client), nil
}

// HostOf reaches the host of a libvirt URI.
func HostOf(ctx context.Context, uri libvirt.URI, o ssh.Options) (*LinuxHost, error) {
	if uri.Local() {
		return Local(), nil
	}
	user, name, port := uri.SSH()
	client, err := ssh.Dial(ctx, ssh.Address{User: user, Name: name, Port: port}, o)
	if err != nil {
		return nil, err
	}
	return Remote(client), nil
}

// IsLocal reports whether it is this machine.
func (h *LinuxHost) IsLocal() bool { return h.remote == nil }

// URI is where the host's libvirt is.
func (h *LinuxHost) URI() (libvirt.URI, error) {
	if h.IsLocal() {
		return libvirt.ParseURI("qemu:///system")
	}
	a := h.remote.Address()
	host := a.Name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return libvirt.ParseURI(fmt.Sprintf("qemu+ssh://%s@%s:%d/system", a.User, host, a.Port))
}

// BootID says which boot of the host this is. What was found out about a machine may be
// another thing after the next one.
func (h *LinuxHost) BootID(ctx context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot == "" {
		result, err := h.Run(ctx, command.New("cat", "/proc/sys/kernel/random/boot_id"))
		if err != nil {
			return "", err
		}
		h.boot = strings.TrimSpace(result.Stdout)
	}
	return h.boot, nil
}

// renew has the host see the groups that the user is in now. Of this machine's running
// program nothing can do that.
func (h *LinuxHost) renew(ctx context.Context) error {
	if h.remote == nil {
		return nil
	}
	return h.remote.Reconnect(ctx)
}

// Close ends the connection to the host.
func (h *LinuxHost) Close() error {
	if h.remote == nil {
		return nil
	}
	return h.remote.Close()
}

// ErrNotPrepared tells that a host's libvirt does not answer.
var ErrNotPrepared = errors.New("not prepared for machines")

// ConnectKVM has a host whose libvirt runs already.
func (h *LinuxHost) ConnectKVM(ctx context.Context, uri libvirt.URI) (*KVMHost, error) {
	k := &KVMHost{linux: h, uri: uri}
	if _, err := k.Conn(ctx); err != nil {
		return nil, &notPreparedError{err}
	}
	return k, nil
}

// notPreparedError is ErrNotPrepared with the cause, which says what to do.
type notPreparedError struct{ cause error }

// Error is the cause.
func (e *notPreparedError) Error() string { return e.cause.Error() }

// Unwrap has errors.Is find ErrNotPrepared as well as the cause.
func (e *notPreparedError) Unwrap() []error { return []error{ErrNotPrepared, e.cause} }
