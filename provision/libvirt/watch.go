package libvirt

import (
	"context"
	"fmt"
	"sync"

	rpc "github.com/digitalocean/go-libvirt"
)

// hub hands on the events of a connection to all who listen. libvirt takes a connection's
// wish to hear of them once only.
type hub struct {
	mu sync.Mutex
	// asked is what became of asking libvirt, once it has answered; nil before.
	asked     *asking
	listeners map[*Subscription]bool
}

type asking struct {
	done chan struct{}
	err  error
}

// Subscription is a listener for events that has begun to listen.
type Subscription struct {
	ctx   context.Context
	hub   *hub
	mu    sync.Mutex
	queue []Event
	wake  chan struct{} // has one in it when there is something in the queue
	gone  chan struct{}
}

// Watch hands every event to handle until ctx ends, which is no error, or libvirtd is gone:
// ErrGone. Events that come while handle is at work wait.
func (c *Conn) Watch(ctx context.Context, handle func(Event)) error {
	s, err := c.Subscribe(ctx)
	if err != nil {
		return err
	}
	return s.Run(handle)
}

// Subscribe begins to listen. What is looked at afterwards needs no second look: whatever
// changes it then is an event. The subscription ends with ctx; Run has to be called or ctx
// to end, else events pile up.
func (c *Conn) Subscribe(ctx context.Context) (*Subscription, error) {
	const what = "listen for events of machines"
	s := &Subscription{ctx: ctx, hub: &c.events, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	asked := c.events.add(s, c.listen)
	var err error
	select {
	case <-asked.done:
		err = asked.err
	case <-c.Gone():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	select {
	case <-c.Gone(): // those who come too late are not told
		err = ErrGone
	default:
	}
	if err != nil {
		c.events.remove(s)
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	context.AfterFunc(ctx, func() { c.events.remove(s) })
	return s, nil
}

// add begins to queue events for s, and has libvirt asked for them by ask if it hasn't yet.
func (h *hub) add(s *Subscription, ask func() error) *asking {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[*Subscription]bool{}
	}
	h.listeners[s] = true
	if h.asked != nil {
		return h.asked
	}
	// Apart from whoever is the first to want it: others go on wanting when that one gives up.
	asked := &asking{done: make(chan struct{})}
	h.asked = asked
	go func() {
		err := ask()
		h.mu.Lock()
		defer h.mu.Unlock()
		if asked.err = err; err != nil {
			h.asked = nil // the next one asks again
		}
		close(asked.done)
	}()
	return asked
}

func (h *hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, s)
}

// hand queues an event for everybody.
func (h *hub) hand(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.listeners {
		s.mu.Lock()
		s.queue = append(s.queue, e)
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// end tells everybody that no more will come.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.listeners {
		close(s.gone)
	}
	h.listeners = nil
}

// listen asks libvirt for events and has them handed on until the connection ends. Of those
// that come between libvirt's answer and the client's getting ready, the client loses some;
// Subscribe returns after that.
func (c *Conn) listen() error {
	ctx, stop := context.WithCancel(context.Background())
	return do(ctx, c, "ask libvirt", func() error {
		lifecycle, err := c.rpc.LifecycleEvents(ctx)
		if err != nil {
			stop()
			return err
		}
		reboots, err := c.rpc.SubscribeEvents(ctx, rpc.DomainEventIDReboot, nil)
		if err != nil {
			stop()
			for range lifecycle { // the client would wait for ever with one that nobody takes
			}
			return err
		}
		go func() {
			defer stop()
			c.pass(lifecycle, reboots)
			c.events.end()
		}()
		return nil
	})
}

// pass hands on events until both channels are closed, as they are with the connection.
func (c *Conn) pass(lifecycle <-chan rpc.DomainEventLifecycleMsg, reboots <-chan any) {
	for lifecycle != nil || reboots != nil {
		select {
		case m, open := <-lifecycle:
			if !open {
				lifecycle = nil
				continue
			}
			if e, known := lifecycleEvent(m); known {
				c.events.hand(e)
			}
		case m, open := <-reboots:
			if !open {
				reboots = nil
				continue
			}
			if r, is := m.(*rpc.DomainEventCallbackRebootMsg); is {
				c.events.hand(Event{Machine: r.Msg.Dom.Name, Kind: EventRebooted})
			}
		}
	}
}

// Run is Watch for a subscription.
func (s *Subscription) Run(handle func(Event)) error {
	defer s.hub.remove(s)
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-s.gone:
			if s.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen for events of machines: %w", ErrGone)
		case <-s.wake:
		}
		s.mu.Lock()
		queue := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, e := range queue {
			if s.ctx.Err() != nil {
				return nil
			}
			handle(e)
		}
	}
}
