package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// Timeout bounds one request to JetStream, which otherwise hangs while it has no
// leader.
const Timeout = 5 * time.Second

// How long to wait before connecting again, at first and at most. Operators come first,
// since without one no device is let in. A fleet whose connections end all at once takes
// turns, or server and operator are so busy with those who have given up meanwhile that
// nobody is let in in time. Who was refused is soon let in when somebody approves it.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 500 * time.Millisecond

	leastDeviceDelay   = time.Second
	firstDeviceDelay   = 5 * time.Second
	maxDeviceDelay     = 30 * time.Second
	refusedDeviceDelay = 10 * time.Second
)

// handshakeRate is how many clients may begin a TLS handshake with a server in a second.
// The others are turned away before it, which costs next to nothing, and come again.
const handshakeRate = 200

// handshakeTimeout is how long the server waits for a client's part of a TLS handshake. Its
// own default of 2 s is too short for a slow processor at the end of a slow link.
const handshakeTimeout = 10 * time.Second

// connectTimeout bounds one attempt. It is longer than the server waits for the end of a
// handshake and then for the operator's answer: who gives up before has had both work for
// nothing, and will again.
const connectTimeout = handshakeTimeout + AuthTimeout + time.Second

// Options of a connection.
type Options struct {
	// URL of the server, or several with commas between.
	URL string
	// SeedFile holds the NKey seed to authenticate with; empty for none.
	SeedFile string
	// Key authenticates instead of a seed in a file; nil for none.
	Key nkeys.KeyPair
	// CAFile holds the certificates that the server's is checked against; empty for
	// the system's. Authorities takes its place where they are not in a file.
	CAFile      string
	Authorities Authorities
	// Unverified takes any certificate: the server has to show in another way who it is.
	Unverified bool
	// OnRefused is called each time that the server does not let this side in.
	OnRefused func()
	// Name of the connection, as the server lists it.
	Name string
	// Device is the device that connects; empty for the operator. Joining is as that of
	// a Caller.
	Device  contracts.DeviceID
	Joining bool
	// InProcess connects to a server in this process instead of URL.
	InProcess nats.InProcessConnProvider
	Logger    *slog.Logger
}

// Connect returns a connection that never gives up: it is made, and made again, in
// the background until it is closed. Only options that can't work are an error.
// Nothing is buffered while there is no connection; a publish fails then. What leaves
// this machine goes by TLS 1.3.
func Connect(o Options) (*nats.Conn, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tls, err := secure(o)
	if err != nil {
		return nil, err
	}
	complaints := &complaints{log: log, url: o.URL, refused: o.OnRefused}
	options := []nats.Option{
		tls,
		nats.Name(o.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(complaints.delay(o.Device != "")),
		// A key that is not known yet may be later.
		nats.IgnoreAuthErrorAbort(),
		// What is older than the connection is sent anew by who knows whether it
		// still holds.
		nats.ReconnectBufSize(-1),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(&dialer{Dialer: net.Dialer{Timeout: connectTimeout}}),
		nats.PingInterval(20 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { log.Info("connected to NATS", "url", nc.ConnectedUrlRedacted()) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("connected to NATS again", "url", nc.ConnectedUrlRedacted()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("lost the connection to NATS, trying again", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { complaints.tell(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if s != nil {
				log.Warn("NATS subscription", "subject", s.Subject, "error", err)
				return
			}
			log.Warn("NATS", "error", err)
		}),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	var public string
	switch {
	case o.Key != nil:
		var err error
		if public, err = o.Key.PublicKey(); err != nil {
			return nil, fmt.Errorf("the key to connect with: %w", err)
		}
		options = append(options, nats.Nkey(public, o.Key.Sign))
	case o.SeedFile != "":
		// It reads the seed anew for each connection, so that none stays in memory.
		key, err := nats.NkeyOptionFromSeed(o.SeedFile)
		if err != nil {
			return nil, fmt.Errorf("read the NKey seed %s: %w", o.SeedFile, err)
		}
		options = append(options, key, func(n *nats.Options) error {
			public = n.Nkey
			return nil
		})
	}
	if o.Device != "" {
		options = append(options, func(n *nats.Options) error {
			caller := Caller{Device: o.Device, Key: public, Joining: o.Joining}
			n.Token, n.InboxPrefix = caller.token(), caller.inboxPrefix()
			return nil
		})
	}
	nc, err := nats.Connect(o.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", o.URL, err)
	}
	go complaints.follow(nc)
	return nc, nil
}

// dialer closes what it has dialled before. A client that is not let in, or whose TLS fails,
// leaves its connection to the garbage collector when it tries again (nats.go 1.55,
// doReconnect), and by then there may be many.
type dialer struct {
	net.Dialer
	last net.Conn
}

// Dial is of nats.CustomDialer; it is called for one attempt at a time.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if d.last != nil {
		_ = d.last.Close() // its attempt has failed, or it has ended
	}
	conn, err := d.Dialer.Dial(network, address)
	d.last = conn
	return conn, err
}

// complaints say why there is no connection, once for each reason in a row.
type complaints struct {
	log     *slog.Logger
	url     string
	refused func()

	// denied is whether the last attempt ended with a refusal.
	denied atomic.Bool

	mu   sync.Mutex
	last string
}

// delay is how long to wait before an attempt, the first being 1.
func (c *complaints) delay(device bool) func(attempt int) time.Duration {
	return func(attempt int) time.Duration {
		switch {
		case !device:
			return Backoff(attempt-1, firstDelay, maxDelay)
		case attempt == 1:
			return leastDeviceDelay + rand.N(firstDeviceDelay)
		case c.denied.Load():
			return Backoff(attempt-1, firstDeviceDelay, refusedDeviceDelay)
		}
		return Backoff(attempt-1, firstDeviceDelay, maxDeviceDelay)
	}
}

func (c *complaints) tell(err error) {
	if err == nil {
		return
	}
	err = Explain(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err.Error() == c.last {
		return
	}
	c.last = err.Error()
	c.log.Warn("can't connect to NATS, trying again", "url", c.url, "error", err)
}

// follow tells of TLS that fails when a connection is made anew, and of refusals: the
// client hands that to no handler, or not in every case.
func (c *complaints) follow(nc *nats.Conn) {
	changed := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	for !nc.IsClosed() {
		err := nc.LastError()
		if errors.Is(err, nats.ErrTLS) || errors.Is(err, nats.ErrSecureConnWanted) {
			c.tell(err)
		}
		denied := errors.Is(err, nats.ErrAuthorization)
		if c.denied.Store(denied); denied && c.refused != nil {
			c.refused()
		}
		<-changed
	}
}

// JetStream is the JetStream of a connection, with every request bounded in time.
func JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(Timeout), jetstream.WithPublishAsyncTimeout(Timeout), jetstream.WithPublishAsyncMaxPending(2*window))
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, nil
}

// Backoff is how long to wait before the next attempt, the first being 0: first,
// doubled with each up to limit, and at random between half of it and all of it,
// so that a fleet does not come back in step.
func Backoff(attempt int, first, limit time.Duration) time.Duration {
	d := limit
	if attempt < 30 && first<<max(attempt, 0) < limit {
		d = first << max(attempt, 0)
	}
	return d/2 + rand.N(d/2+1)
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Await waits until a connection stands, or says that it was closed.
func Await(ctx context.Context, nc *nats.Conn) error {
	changed := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	for {
		switch nc.Status() {
		case nats.CONNECTED:
			return nil
		case nats.CLOSED:
			return errors.New("the connection to NATS is closed")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
