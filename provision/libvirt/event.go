package libvirt

import (
	"context"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"
)

// Event is what has happened to a machine, whoever brought it about.
type Event struct {
	Machine string
	// Kind is one of the constants below.
	Kind   string
	Detail string
}

// The kinds of events. A machine that shuts down says EventShutdown first and EventStopped
// when it has ended; all that end say EventStopped, with the reason as its detail.
const (
	EventStarted   = "started"
	EventStopped   = "stopped"
	EventShutdown  = "shutdown"
	EventCrashed   = "crashed"
	EventDefined   = "defined"
	EventUndefined = "undefined"
	EventSuspended = "suspended"
	EventResumed   = "resumed"
	EventRebooted  = "rebooted"
)

// Subscription is a listener for events that has begun to listen.
type Subscription struct {
	ctx       context.Context
	end       context.CancelFunc
	lifecycle <-chan rpc.DomainEventLifecycleMsg
	reboots   <-chan any
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
	s := &Subscription{}
	s.ctx, s.end = context.WithCancel(ctx)
	// The client hands on each event without regard to ctx, and would wait for ever with
	// one that nobody takes any more; hence the drains.
	err := do(ctx, c, "listen for events of machines", func() error {
		lifecycle, err := c.rpc.LifecycleEvents(s.ctx)
		if err != nil {
			return err
		}
		context.AfterFunc(s.ctx, func() { drain(lifecycle) })
		reboots, err := c.rpc.SubscribeEvents(s.ctx, rpc.DomainEventIDReboot, nil)
		if err != nil {
			return err
		}
		context.AfterFunc(s.ctx, func() { drain(reboots) })
		s.lifecycle, s.reboots = lifecycle, reboots
		return nil
	})
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func drain[T any](ch <-chan T) {
	for range ch {
	}
}

// Run is Watch for a subscription.
func (s *Subscription) Run(handle func(Event)) error {
	defer s.end()
	gone := func() error {
		if s.ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("listen for events of machines: %w", ErrGone)
	}
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case m, open := <-s.lifecycle:
			if !open {
				return gone()
			}
			if e, known := lifecycleEvent(m); known {
				handle(e)
			}
		case m, open := <-s.reboots:
			if !open {
				return gone()
			}
			if r, is := m.(*rpc.DomainEventCallbackRebootMsg); is {
				handle(Event{Machine: r.Msg.Dom.Name, Kind: EventRebooted})
			}
		}
	}
}

func lifecycleEvent(m rpc.DomainEventLifecycleMsg) (Event, bool) {
	e := Event{Machine: m.Dom.Name}
	switch rpc.DomainEventType(m.Event) {
	case rpc.DomainEventDefined:
		e.Kind = EventDefined
	case rpc.DomainEventUndefined:
		e.Kind = EventUndefined
	case rpc.DomainEventStarted:
		e.Kind = EventStarted
	case rpc.DomainEventSuspended, rpc.DomainEventPmsuspended:
		e.Kind = EventSuspended
		if rpc.DomainEventSuspendedDetailType(m.Detail) == rpc.DomainEventSuspendedIoerror {
			e.Detail = "a disk failed"
		}
	case rpc.DomainEventResumed:
		e.Kind = EventResumed
	case rpc.DomainEventStopped:
		e.Kind = EventStopped
		switch rpc.DomainEventStoppedDetailType(m.Detail) {
		case rpc.DomainEventStoppedShutdown:
			e.Detail = "it shut down"
		case rpc.DomainEventStoppedDestroyed:
			e.Detail = "destroyed"
		case rpc.DomainEventStoppedCrashed:
			e.Detail = "crashed"
		case rpc.DomainEventStoppedSaved:
			e.Detail = "its memory was saved"
		case rpc.DomainEventStoppedFailed:
			e.Detail = "it failed"
		}
	case rpc.DomainEventShutdown:
		e.Kind = EventShutdown
		switch rpc.DomainEventShutdownDetailType(m.Detail) {
		case rpc.DomainEventShutdownGuest:
			e.Detail = "by its own system"
		case rpc.DomainEventShutdownHost:
			e.Detail = "asked by the host"
		}
	case rpc.DomainEventCrashed:
		e.Kind = EventCrashed
	default:
		return Event{}, false
	}
	return e, true
}
