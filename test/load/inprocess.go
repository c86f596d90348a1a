package main

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// inProcess connects to the server that runs now. What NATS connects with in one process is
// net.Pipe, which has no buffer: a write waits for who reads. A client writes with its lock
// held, and reads with that lock too; so with thousands of them server and clients wait for
// one another in circles until deadlines pass, which sockets never do.
type inProcess struct{ atomic.Pointer[server.Server] }

// InProcessConn is of nats.InProcessConnProvider.
func (p *inProcess) InProcessConn() (net.Conn, error) {
	c, err := p.Load().InProcessConn()
	if err != nil {
		return nil, err
	}
	return &buffered{Conn: c}, nil
}

// buffered takes what is written, as the buffer of a socket does, and passes it on.
type buffered struct {
	net.Conn
	mu      sync.Mutex
	waiting []byte
	passing bool
	err     error
}

// Write never waits. An error is that of an earlier Write.
func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	b.waiting = append(b.waiting, p...)
	if !b.passing {
		b.passing = true
		go b.pass()
	}
	return len(p), nil
}

func (b *buffered) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 && b.err == nil {
		next := b.waiting
		b.waiting = nil
		b.mu.Unlock()
		_, err := b.Conn.Write(next)
		b.mu.Lock()
		b.err = err
	}
	b.passing = false
}
