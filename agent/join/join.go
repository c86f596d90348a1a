// Package join takes a device into a fleet: it makes sure of who the fleet is, has the
// device registered, and waits until somebody has approved it.
package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/nats-io/nuid"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// Options of joining.
type Options struct {
	// Server is the URL of the fleet's server, or several with commas between.
	Server string
	// Device is the ID that the device joins as.
	Device contracts.DeviceID
	// Token is a join token's text; empty for a device whose key Git has.
	Token string
	// Fingerprint is the operator's; empty for the token's.
	Fingerprint string
	// SeedFile holds the device's key, which is made if it is missing; StateDir is where
	// what the device trusts is kept.
	SeedFile, StateDir string
	// Patience is how long to try before anybody has answered.
	Patience time.Duration
	// Wait waits for approval.
	Wait bool
	// Tell is told how it goes.
	Tell func(format string, args ...any)
	// InProcess is as that of bus.Options.
	InProcess nats.InProcessConnProvider
	Log       *slog.Logger
}

// Waiting is what Tell is told when the device waits for approval: its namespace, and what
// is to be done.
const Waiting = "◎ registered in namespace %s; %s"

// RefusedError tells that the operator does not take the device.
type RefusedError struct {
	Reason  contracts.JoinReason
	Message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("this device may not join (%s): %s", e.Reason, e.Message)
}

// Join takes the device into the fleet. Until the operator has agreed, nothing is left
// on the device but its key.
func Join(ctx context.Context, o Options) (contracts.JoinStatement, error) {
	none := contracts.JoinStatement{}
	fingerprint, err := o.fingerprint()
	if err != nil {
		return none, err
	}
	before, err := trust.Load(o.StateDir)
	if err != nil && !errors.Is(err, trust.ErrNotJoined) {
		return none, err
	}
	if before.Operator != "" {
		if was, err := contracts.Fingerprint(before.Operator); err != nil || was != fingerprint {
			return none, fmt.Errorf("this device has joined another fleet, whose operator has the fingerprint %s: to move it, stop the agent and remove %s", was, trust.Path(o.StateDir))
		}
	}
	publicKey, err := identity.Ensure(o.SeedFile)
	if err != nil {
		return none, err
	}
	o.Tell("► this device is %s, its key is %s", o.Device, publicKey)

	// Who answers is not known yet: it has to show that it is the operator.
	o.Tell("◎ asking %s who it is …", o.Server)
	patient, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	a := asker{Options: o, publicKey: publicKey}
	first, err := a.ask(patient, bus.Options{Unverified: true}, "")
	if err != nil {
		return none, err
	}
	if got, err := contracts.Fingerprint(first.Operator); err != nil || got != fingerprint {
		return none, fmt.Errorf("the operator at %s has the fingerprint %s, not %s: it is another fleet's, or somebody is on the way to it", o.Server, got, fingerprint)
	}
	if skew := time.Since(first.Time); skew.Abs() > contracts.MaxClockSkew {
		return none, fmt.Errorf("this device's clock says %s, and it is %s: set it (timedatectl set-ntp true) and join again",
			time.Now().UTC().Format(time.RFC3339), first.Time.UTC().Format(time.RFC3339))
	}

	t := trust.Trust{Operator: first.Operator, Curve: first.Curve, CA: first.CA, Server: o.Server, Device: o.Device}
	a.trust = t
	o.Tell("✔ it is the fleet of the operator with the fingerprint %s", fingerprint)
	s, err := a.ask(patient, t.Options(), o.Token)
	if err != nil {
		return none, err
	}
	switch s.Standing {
	case contracts.StandingRefused:
		return s, &RefusedError{s.Reason, s.Message}
	case contracts.StandingUnknown:
		return s, &RefusedError{contracts.JoinReason(s.Standing), s.Message}
	}
	t.CA = s.CA
	if err := trust.Save(o.StateDir, t); err != nil {
		return s, err
	}
	return a.settle(ctx, t, s)
}

// settle waits for approval, if that is wanted.
func (a asker) settle(ctx context.Context, t trust.Trust, s contracts.JoinStatement) (contracts.JoinStatement, error) {
	for {
		switch s.Standing {
		case contracts.StandingApproved:
			a.Tell("✔ %s has joined, in namespace %s", a.Device, s.Namespace)
			return s, nil
		case contracts.StandingPending:
			a.Tell(Waiting, s.Namespace, s.Message)
			if !a.Wait {
				return s, nil
			}
		default:
			return s, &RefusedError{contracts.JoinReason(s.Standing), s.Message}
		}
		var err error
		if s, err = Decided(ctx, a.Options, t, nil); err != nil {
			return s, err
		}
	}
}

func (o *Options) fingerprint() (string, error) {
	if o.Token == "" {
		if o.Fingerprint == "" {
			return "", errors.New("a token is missing, or the operator's fingerprint if the device's key is in Git: nothing says which fleet this is to be")
		}
		return contracts.ParseFingerprint(o.Fingerprint)
	}
	t, err := contracts.ParseJoinToken(o.Token)
	if err != nil {
		return "", err
	}
	if o.Fingerprint != "" && o.Fingerprint != t.Fingerprint {
		return "", fmt.Errorf("the token is of a fleet whose operator has the fingerprint %s, not %s", t.Fingerprint, o.Fingerprint)
	}
	return t.Fingerprint, nil
}

// Decided waits until somebody has decided on a device that has joined, and returns how it
// stands then. waiting, if not nil, is told each time that there is no decision yet.
func Decided(ctx context.Context, o Options, t trust.Trust, waiting func(contracts.JoinStatement)) (contracts.JoinStatement, error) {
	publicKey, err := identity.Ensure(o.SeedFile)
	if err != nil {
		return contracts.JoinStatement{}, err
	}
	a := asker{Options: o, publicKey: publicKey, trust: t}
	nc, err := a.connect(t.Options())
	if err != nil {
		return contracts.JoinStatement{}, err
	}
	defer nc.Close()
	// The operator ends the connection of who waits when there is a decision.
	changed := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(changed)
	for {
		s, err := a.over(ctx, nc, "")
		if err != nil {
			return s, err
		}
		if s.Standing != contracts.StandingPending {
			return s, nil
		}
		if waiting != nil {
			waiting(s)
		}
		select {
		case <-changed:
		case <-time.After(bus.Backoff(0, askAgain, askAgain)):
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// askAgain is how often to ask although nothing has happened.
const askAgain = 10 * time.Minute

// asker asks the operator as the device.
type asker struct {
	Options
	publicKey string
	// trust is whom the device knows to be the operator; empty while it does not.
	trust trust.Trust
}

func (a asker) connect(o bus.Options) (*nats.Conn, error) {
	o.URL, o.SeedFile, o.Name, o.Device, o.Joining, o.Logger = a.Server, a.SeedFile, "fleet-agent join "+string(a.Device), a.Device, true, a.Log
	o.InProcess = a.InProcess
	return bus.Connect(o)
}

// ask asks over a connection of its own.
func (a asker) ask(ctx context.Context, o bus.Options, token string) (contracts.JoinStatement, error) {
	nc, err := a.connect(o)
	if err != nil {
		return contracts.JoinStatement{}, err
	}
	defer nc.Close()
	s, err := a.over(ctx, nc, token)
	if err != nil && nc.LastError() != nil {
		err = fmt.Errorf("%w; the connection to %s: %w", err, a.Server, nc.LastError())
	}
	return s, err
}

// over asks until there is an answer.
func (a asker) over(ctx context.Context, nc *nats.Conn, token string) (contracts.JoinStatement, error) {
	for attempt := 0; ; attempt++ {
		s, err := a.once(ctx, nc, token)
		if err == nil && s.Reason != contracts.JoinUnavailable {
			return s, nil
		}
		timer := time.NewTimer(bus.Backoff(attempt, 250*time.Millisecond, 5*time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			switch {
			case err == nil:
				return s, &RefusedError{s.Reason, s.Message}
			case errors.Is(err, nats.ErrNoResponders):
				err = errors.New("the server is there, and no operator answers")
			}
			return s, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

func (a asker) once(ctx context.Context, nc *nats.Conn, token string) (contracts.JoinStatement, error) {
	request := contracts.JoinRequest{Device: a.Device, Nonce: nuid.Next()}
	if token != "" {
		if err := a.seal(&request, token); err != nil {
			return contracts.JoinStatement{}, err
		}
	}
	data, err := contracts.Encode(request)
	if err != nil {
		return contracts.JoinStatement{}, err
	}
	reply, err := bus.AskToJoin(ctx, nc, a.publicKey, data)
	if err != nil {
		return contracts.JoinStatement{}, err
	}
	s, err := contracts.OpenJoin(reply, request.Nonce, a.publicKey)
	if err == nil && a.trust.Operator != "" && s.Operator != a.trust.Operator {
		err = fmt.Errorf("the answer is another operator's: %s", s.Operator)
	}
	return s, err
}

// seal puts a claim into the request that only the operator can read.
func (a asker) seal(r *contracts.JoinRequest, token string) error {
	claim, err := contracts.Encode(contracts.JoinClaim{Device: a.Device, PublicKey: a.publicKey, Token: token, Time: time.Now()})
	if err != nil {
		return err
	}
	sender, err := nkeys.CreateCurveKeys()
	if err != nil {
		return fmt.Errorf("seal the token: %w", err)
	}
	defer sender.Wipe()
	if r.Sender, err = sender.PublicKey(); err != nil {
		return fmt.Errorf("seal the token: %w", err)
	}
	if r.Claim, err = sender.Seal(claim, a.trust.Curve); err != nil {
		return fmt.Errorf("seal the token: %w", err)
	}
	return nil
}
