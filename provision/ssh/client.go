package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nationtech/fleet/provision/command"
)

// patience is how long a host may take to answer when it is connected to.
const patience = 20 * time.Second

// Options are how to reach a host.
type Options struct {
	Identities Identities
	// KnownHosts are the files with the keys that hosts are known by, and Own is the one
	// that an accepted key is written to.
	KnownHosts []string
	Own        string
	// Accept is the fingerprint of a host key that somebody has compared.
	Accept string
}

// Client is a connection to one host.
type Client struct {
	address Address
	options Options

	mu     sync.Mutex
	client *ssh.Client
	uid    int
}

// Dial connects to a host.
func Dial(ctx context.Context, a Address, o Options) (*Client, error) {
	a, err := a.complete()
	if err != nil {
		return nil, err
	}
	c := &Client{address: a, options: o}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Reconnect connects anew: what a user may do follows from the groups that the user was in
// when the connection was made.
func (c *Client) Reconnect(ctx context.Context) error {
	_ = c.Close()
	return c.connect(ctx)
}

func (c *Client) connect(ctx context.Context) error {
	client, err := open(ctx, c.address, c.options)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.address, err)
	}
	c.mu.Lock()
	c.client = client
	c.mu.Unlock()
	result, err := c.Run(ctx, command.New("id", "-u"))
	if err == nil {
		c.uid, err = strconv.Atoi(strings.TrimSpace(result.Stdout))
	}
	if err != nil {
		_ = c.Close()
		return fmt.Errorf("find out who one is on %s: %w", c.address, err)
	}
	return nil
}

func open(ctx context.Context, a Address, o Options) (*ssh.Client, error) {
	keys, err := newHostKeys(a, o.KnownHosts, o.Own, o.Accept)
	if err != nil {
		return nil, err
	}
	signers, agent, problems := o.Identities.signers()
	if agent != nil {
		defer agent.Close()
	}
	if len(signers) == 0 {
		return nil, errors.Join(append([]error{errors.New("there is no SSH key to show: make one with ssh-keygen, put its public half into the host's authorized_keys, or name one with --identity")}, problems...)...)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.dial())
	if err != nil {
		return nil, err
	}
	// The handshake knows no context: closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// What the callback has found is kept: the handshake's own error wraps it in text alone.
	var refused error
	config := &ssh.ClientConfig{
		User: a.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, HostKeyAlgorithms: keys.algorithms(),
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			refused = keys.check(name, remote, key)
			return refused
		},
	}
	sc, channels, requests, err := ssh.NewClientConn(conn, a.dial(), config)
	switch {
	case err == nil:
		return ssh.NewClient(sc, channels, requests), nil
	case refused != nil:
		err = refused
	case ctx.Err() != nil:
		err = fmt.Errorf("it does not answer as an SSH server does: %w", ctx.Err())
	case strings.Contains(err.Error(), "unable to authenticate"):
		err = errors.Join(append([]error{fmt.Errorf("the host accepts none of %d keys for user %s: put one's public half into that user's authorized_keys, or name another with --identity", len(signers), a.User)}, problems...)...)
	}
	_ = conn.Close()
	return nil, err
}

// Host names the host.
func (c *Client) Host() string { return c.address.Name }

// Address is where the host is.
func (c *Client) Address() Address { return c.address }

// User is who one is on the host.
func (c *Client) User() string { return c.address.User }

// Root reports whether one is root there.
func (c *Client) Root() bool { return c.uid == 0 }

// Close ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil
	}
	err := c.client.Close()
	c.client = nil
	return err
}

func (c *Client) current() (*ssh.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil, fmt.Errorf("the connection to %s is closed", c.address)
	}
	return c.client, nil
}

// Run runs a command. One whose context ends is told to end, and not waited for.
func (c *Client) Run(ctx context.Context, cmd command.Command) (command.Result, error) {
	client, err := c.current()
	if err != nil {
		return command.Result{}, err
	}
	session, err := client.NewSession()
	if err != nil {
		return command.Result{}, fmt.Errorf("run %s on %s: %w", cmd.Args[0], c.Host(), err)
	}
	defer session.Close()
	var out, errOut bytes.Buffer
	session.Stdout, session.Stderr = &out, &errOut
	done := make(chan error, 1)
	// What is parsed must not depend on the language that is set there.
	go func() { done <- session.Run("LC_ALL=C " + cmd.Shell(c.uid)) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = session.Signal(ssh.SIGTERM)
		return command.Result{}, fmt.Errorf("run %s on %s: %w", cmd.Args[0], c.Host(), ctx.Err())
	}
	result := command.Result{Stdout: out.String(), Stderr: errOut.String()}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return result, nil
	case errors.As(err, &exit):
		result.Code = exit.ExitStatus()
		return result, &command.ExitError{Host: c.Host(), Command: cmd, Result: result}
	}
	return result, fmt.Errorf("run %s on %s: %w", cmd.Args[0], c.Host(), err)
}

// DialUnix opens a connection to a socket of the host.
func (c *Client) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	client, err := c.current()
	if err != nil {
		return nil, err
	}
	conn, err := client.DialContext(ctx, "unix", path)
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		return nil, fmt.Errorf("socket %s on %s: the host's SSH server does not forward to sockets: set AllowStreamLocalForwarding yes in its sshd_config", path, c.Host())
	case errors.As(err, &refused):
		return nil, fmt.Errorf("socket %s on %s: %w; either it does not exist, or user %s may not use it", path, c.Host(), err, c.User())
	case err != nil:
		return nil, fmt.Errorf("socket %s on %s: %w", path, c.Host(), err)
	}
	return conn, nil
}

var (
	_ command.Runner = (*Client)(nil)
	_ io.Closer      = (*Client)(nil)
)
