package libvirt

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	rpc "github.com/digitalocean/go-libvirt"
)

// What errors.Is finds in the errors of this package. Their texts are libvirt's own.
var (
	// ErrNotFound is for a machine, pool, volume or network that libvirt does not know.
	ErrNotFound = errors.New("not found")
	// ErrNotOurs is for one that somebody else made. It is left as it is.
	ErrNotOurs = errors.New("made by somebody else")
	// ErrPoolFull is for a volume that its pool has no space for.
	ErrPoolFull = errors.New("the storage pool is full")
	// ErrGone is for a connection whose libvirtd has ended, or doesn't answer any more.
	// Dial makes a new one.
	ErrGone = errors.New("libvirtd is gone")
	// ErrExists is for a volume whose name is taken.
	ErrExists = errors.New("exists already")
	// ErrInUse is for a volume that another one is a copy on write of, or that somebody else
	// is uploading.
	ErrInUse = errors.New("in use")
	// ErrNeedsRestart is for a change that a running machine can't take. Nothing has
	// been changed.
	ErrNeedsRestart = errors.New("needs a restart")
)

// kindOf is an error of a kind that errors.Is finds, and that prints as its cause alone.
type kindOf struct{ kind, cause error }

func (e *kindOf) Error() string   { return e.cause.Error() }
func (e *kindOf) Unwrap() []error { return []error{e.kind, e.cause} }

// asKind is an error that errors.Is takes for kind and that says what the format does.
func asKind(kind error, format string, args ...any) error {
	return &kindOf{kind, fmt.Errorf(format, args...)}
}

// classify tells the kinds of errors apart that callers act on.
func classify(err error) error {
	var known *kindOf
	if err == nil || errors.As(err, &known) || errors.Is(err, ErrGone) {
		return err
	}
	var said rpc.Error
	if !errors.As(err, &said) {
		if lost(err) {
			return ErrGone
		}
		return err
	}
	switch rpc.ErrorNumber(said.Code) {
	case rpc.ErrNoDomain, rpc.ErrNoStoragePool, rpc.ErrNoStorageVol, rpc.ErrNoNetwork:
		return &kindOf{ErrNotFound, err}
	case rpc.ErrStorageVolExist:
		return &kindOf{ErrExists, err}
	}
	// libvirtd speaks its own language here, which an administrator may have set. What
	// is missed for that is still an error, only without its kind.
	if strings.Contains(said.Message, "No space left on device") {
		return &kindOf{ErrPoolFull, err}
	}
	return err
}

// lost reports whether the connection has ended, rather than libvirt refused.
func lost(err error) bool {
	var network *net.OpError
	return errors.Is(err, rpc.ErrInterrupted) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

// saidCode reports whether libvirt refused with one of these codes.
func saidCode(err error, codes ...rpc.ErrorNumber) bool {
	var said rpc.Error
	if !errors.As(err, &said) {
		return false
	}
	for _, code := range codes {
		if rpc.ErrorNumber(said.Code) == code {
			return true
		}
	}
	return false
}
