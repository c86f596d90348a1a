package libvirt

import (
	"io"
	"net"
	"sync"
)

// link is a connection that knows when it has ended. The client knows too, but loses it
// when that happens while it is connecting.
type link struct {
	net.Conn
	gone chan struct{}
	once sync.Once
}

// Dial makes link a dialer, which is how the client takes a connection.
func (l *link) Dial() (net.Conn, error) { return l, nil }

// Read ends with io.EOF whatever went wrong: the client would read on after an error that
// calls itself temporary, of which a connection that was reset is one.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		l.once.Do(func() { close(l.gone) })
		err = io.EOF
	}
	return n, err
}

// Close ends the connection, and says so even if nobody reads from it.
func (l *link) Close() error {
	l.once.Do(func() { close(l.gone) })
	return l.Conn.Close()
}
