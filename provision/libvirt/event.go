package libvirt

import rpc "github.com/digitalocean/go-libvirt"

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
