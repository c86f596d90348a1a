package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"syscall"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
)

const (
	// patience is how long one call may take. Most take milliseconds; making a volume
	// or ending a machine whose disk is slow takes longest.
	patience     = time.Minute
	closeTimeout = 2 * time.Second
)

// sockets are where libvirtd listens: the one daemon, or since Fedora 35 the one for QEMU
// that hands on what concerns networks and storage.
var sockets = []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"}

// DialOptions is how Dial connects.
type DialOptions struct {
	Logger *slog.Logger
	// SSH opens the connection for a qemu+ssh URI to the host's libvirt socket; nil refuses
	// such URIs.
	SSH func(ctx context.Context, socket string) (net.Conn, error)
	// Patience is how long libvirtd may take to answer; a minute when zero. It is asked
	// twice as often whether it is there, and one that isn't is gone. A killed one is noticed
	// at once, by its socket; this is for one that hangs, or whose host is cut off.
	Patience time.Duration
}

// Conn is a connection to a libvirtd. Its methods may be called from several goroutines.
//
// libvirt's protocol has no way to call a call back, nor does the client have contexts. A
// method whose context ends returns at once and leaves its call running, with a goroutine
// that waits for the answer: what it asked for may still come about. The other choice, to
// close the connection, would fail everybody else's calls too.
type Conn struct {
	uri     URI
	options DialOptions
	log     *slog.Logger
	rpc     *rpc.Libvirt
	link    *link
	events  hub
}

// Dial connects to the libvirtd that u says. The context is for connecting alone.
func Dial(ctx context.Context, u URI, o DialOptions) (*Conn, error) {
	c := &Conn{uri: u, options: o, log: o.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.options.Patience <= 0 {
		c.options.Patience = patience
	}
	if u.scheme == "" {
		return nil, errors.New("connect to libvirt: no URI given")
	}
	if u.scheme == schemeSSH && o.SSH == nil {
		return nil, fmt.Errorf("connect to %s: this program doesn't connect through ssh", u)
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Patience)
	defer cancel()
	l, err := c.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u, err)
	}
	c.link = l
	c.rpc, err = greet(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u, err)
	}
	go c.keepalive()
	return c, nil
}

// greet opens the session on a new connection, which it closes when that fails.
func greet(ctx context.Context, l *link) (*rpc.Libvirt, error) {
	client := rpc.NewWithDialer(l)
	done := make(chan error, 1)
	go func() { done <- client.ConnectToURI(rpc.QEMUSystem) }()
	select {
	case err := <-done:
		if err != nil {
			l.Close()
			var said rpc.Error
			if errors.As(err, &said) {
				return nil, fmt.Errorf("libvirt refuses: %w (a user who is not root has to be in the group libvirt)", err)
			}
			return nil, ErrGone
		}
		return client, nil
	case <-ctx.Done():
		l.Close()
		return nil, fmt.Errorf("libvirt doesn't answer: %w", context.Cause(ctx))
	}
}

// open connects to the first of the sockets that is there.
func (c *Conn) open(ctx context.Context) (*link, error) {
	candidates := sockets
	if c.uri.socket != "" {
		candidates = []string{c.uri.socket}
	}
	var first error
	for _, at := range candidates {
		var conn net.Conn
		var err error
		if c.uri.scheme == schemeSSH {
			conn, err = c.options.SSH(ctx, at)
		} else {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "unix", at)
			err = explain(at, err)
		}
		if err == nil {
			return &link{Conn: conn, gone: make(chan struct{})}, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// explain says what to do about a socket that can't be connected to.
func explain(socket string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not there: install libvirt (on Debian libvirt-daemon-system) and start libvirtd: %w", socket, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: start libvirtd: %w", socket, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is not for this user: add the user to the group libvirt and log in anew: %w", socket, err)
	}
	return err
}

// URI is what was dialled.
func (c *Conn) URI() URI { return c.uri }

// Gone is closed when libvirtd is gone, or Close was called.
func (c *Conn) Gone() <-chan struct{} { return c.link.gone }

// Close ends the connection. What is under way on it returns ErrGone.
func (c *Conn) Close() error { return hangUp(c.rpc, c.link) }

// hangUp says goodbye, which keeps libvirtd from logging an error about us.
func hangUp(client *rpc.Libvirt, l *link) error {
	bye := make(chan struct{})
	go func() {
		_ = client.ConnectClose()
		close(bye)
	}()
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-bye:
	case <-l.gone:
	case <-timeout.C:
	}
	err := l.Close()
	settle(client)
	return err
}

// settle waits until the client has noticed that its connection is closed, after which no
// goroutine of its is left. It misses one that closes while the session is being opened,
// hence the limit.
func settle(client *rpc.Libvirt) {
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-client.Disconnected():
	case <-timeout.C:
	}
}

// keepalive closes a connection on which nobody answers.
func (c *Conn) keepalive() {
	tick := time.NewTicker(c.options.Patience / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.Gone():
			return
		case <-tick.C:
		}
		_, err := call(context.Background(), c, "ask libvirt whether it is there", c.rpc.ConnectGetLibVersion)
		if errors.Is(err, context.DeadlineExceeded) {
			c.log.Warn("libvirt doesn't answer: connection closed", "uri", c.uri.String())
			c.link.Close()
			return
		}
	}
}

// apart runs f on a connection of its own, which is closed when ctx ends. Streams need
// that: their packets are handed on one by one, so that a slow reader would hold up every
// other call, and only a closed connection ends one early.
func (c *Conn) apart(ctx context.Context, what string, f func(*rpc.Libvirt) error) error {
	l, err := c.open(ctx)
	if err != nil {
		select {
		case <-c.Gone():
			err = ErrGone
		default:
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	greeting, cancel := context.WithTimeout(ctx, c.options.Patience)
	client, err := greet(greeting, l)
	cancel()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- f(client) }()
	select {
	case err = <-done:
		err = classify(err)
		hangUp(client, l)
	case <-ctx.Done():
		l.Close()
		settle(client)
		err = context.Cause(ctx)
	case <-c.Gone(): // libvirtd hangs, which the other connection has found out
		l.Close()
		settle(client)
		err = ErrGone
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// call asks libvirt something, for as long as ctx and the connection last.
func call[T any](ctx context.Context, c *Conn, what string, f func() (T, error)) (T, error) {
	var none T
	select {
	case <-c.link.gone:
		return none, fmt.Errorf("%s: %w", what, ErrGone)
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Patience,
		fmt.Errorf("libvirt has not answered for %s: %w", c.options.Patience, context.DeadlineExceeded))
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := f()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return none, fmt.Errorf("%s: %w", what, classify(a.err))
		}
		return a.value, nil
	case <-c.link.gone:
		return none, fmt.Errorf("%s: %w", what, ErrGone)
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// do is call for what answers nothing.
func do(ctx context.Context, c *Conn, what string, f func() error) error {
	_, err := call(ctx, c, what, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
