package libvirt

import (
	"context"
	"errors"
	"io"

	rpc "github.com/digitalocean/go-libvirt"
)

// Console connects stream to the machine's serial console, until the machine ends, the
// stream can't be written to any more or ctx ends, which is how a user leaves it. Only one
// can be connected at a time. A read from stream that is under way at the end is left
// behind: it takes the next thing typed.
func (c *Conn) Console(ctx context.Context, name string, stream io.ReadWriter) error {
	d, s, err := c.ours(ctx, name)
	if err != nil {
		return err
	}
	if !s.Active() {
		return errors.New("console of machine " + name + ": it is " + string(s.State) + ": start it")
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	err = c.apart(ctx, "console of machine "+name, func(client *rpc.Libvirt) error {
		// An end of what is typed is not the end of what is to be seen.
		typed := &openEnd{stream, ctx.Done()}
		shown := &closing{stream, leave}
		return client.DomainOpenConsoleBidirectional(d, nil, typed, shown, uint32(rpc.DomainConsoleSafe))
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ConsoleLog is the file on the host in which virtlogd writes down the machine's console.
func (c *Conn) ConsoleLog(name string) string { return consoleLog(name) }

// openEnd is a reader that waits where the one in it ends.
type openEnd struct {
	io.Reader
	done <-chan struct{}
}

func (r *openEnd) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && n == 0 {
		<-r.done
		return 0, io.EOF
	}
	return n, nil
}

// closing is a writer that never fails: when it can't write, it ends what writes to it
// instead, and takes what still comes. The client can't be told otherwise, and would block
// its connection for ever.
type closing struct {
	io.Writer
	end context.CancelCauseFunc
}

func (w *closing) Write(p []byte) (int, error) {
	if w.end != nil {
		if _, err := w.Writer.Write(p); err != nil {
			w.end(err)
			w.end = nil
		}
	}
	return len(p), nil
}
