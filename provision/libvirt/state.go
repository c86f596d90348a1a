package libvirt

import rpc "github.com/digitalocean/go-libvirt"

func stateOf(s rpc.DomainState) State {
	switch s {
	case rpc.DomainRunning, rpc.DomainBlocked, rpc.DomainShutdown:
		return StateRunning // one that is shutting down runs until it has ended
	case rpc.DomainPaused:
		return StatePaused
	case rpc.DomainShutoff:
		return StateShutOff
	case rpc.DomainCrashed:
		return StateCrashed
	}
	return StateOther
}

// Of the reasons that a MachineStatus has, those that tell apart what is to be done.
const (
	ReasonShuttingDown  = "shutting down"
	ReasonDiskFailed    = "a disk failed: is there space left in its pool"
	ReasonPausedByHand  = "paused by a person"
	ReasonDestroyed     = "destroyed"
	ReasonShutDown      = "it shut down"
	ReasonCrashed       = "crashed"
	ReasonFailedToStart = "it failed to start"
)

// reasons are how a machine came into its state.
var reasons = map[rpc.DomainState]map[int32]string{
	rpc.DomainRunning: {
		int32(rpc.DomainRunningBooted):   "booted",
		int32(rpc.DomainRunningRestored): "restored from saved memory",
		int32(rpc.DomainRunningUnpaused): "resumed",
		int32(rpc.DomainRunningWakeup):   "woken up",
		int32(rpc.DomainRunningCrashed):  "resumed after a crash",
	},
	rpc.DomainPaused: {
		int32(rpc.DomainPausedUser):         ReasonPausedByHand,
		int32(rpc.DomainPausedSave):         "its memory is being saved",
		int32(rpc.DomainPausedDump):         "its memory is being dumped",
		int32(rpc.DomainPausedIoerror):      ReasonDiskFailed,
		int32(rpc.DomainPausedWatchdog):     "its watchdog went off",
		int32(rpc.DomainPausedShuttingDown): "it is shutting down",
		int32(rpc.DomainPausedCrashed):      "its system crashed",
		int32(rpc.DomainPausedStartingUp):   "it is starting",
	},
	rpc.DomainShutdown: {
		int32(rpc.DomainShutdownUnknown): ReasonShuttingDown,
		int32(rpc.DomainShutdownUser):    ReasonShuttingDown,
	},
	rpc.DomainShutoff: {
		int32(rpc.DomainShutoffUnknown):   "never started",
		int32(rpc.DomainShutoffShutdown):  ReasonShutDown,
		int32(rpc.DomainShutoffDestroyed): ReasonDestroyed,
		int32(rpc.DomainShutoffCrashed):   ReasonCrashed,
		int32(rpc.DomainShutoffSaved):     "its memory is saved",
		int32(rpc.DomainShutoffFailed):    ReasonFailedToStart,
		int32(rpc.DomainShutoffDaemon):    "libvirtd lost it",
	},
	rpc.DomainCrashed: {
		int32(rpc.DomainCrashedUnknown):  ReasonCrashed,
		int32(rpc.DomainCrashedPanicked): "its system panicked",
	},
}

// reasonOf is empty for a reason that libvirt itself doesn't know.
func reasonOf(s rpc.DomainState, reason int32) string { return reasons[s][reason] }
