package join

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/admission"
	"github.com/nationtech/fleet/operator/gate"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/roster"
)

const fieldOwner = client.FieldOwner("fleet-operator")

//+kubebuilder:rbac:groups=fleet.nationtech.io,resources=devices,verbs=create;patch
// Its Secrets the operator may read where manifests/rbac/team.yaml is bound, not in the
// whole cluster.

// Service answers devices that ask to join, or how they stand. The leader has it alone.
type Service struct {
	client.Client
	Gate     *gate.Gate
	Roster   *roster.Roster
	Recorder *record.Recorder
	Clock    clock.PassiveClock
	Conn     *nats.Conn
	Keys     *bus.Keys
	// Authorities are what devices check the server against.
	Authorities bus.Authorities
	Log         *slog.Logger

	counter         *counter
	operator, curve string

	mu sync.Mutex
	// awaited are closed when the roster has a change of the Device.
	awaited map[contracts.DeviceID]chan struct{}
}

// Changed takes in that the Device of an ID has changed. It is an observer of the roster.
func (s *Service) Changed(id contracts.DeviceID, _, _ *roster.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch, ok := s.awaited[id]; ok {
		close(ch)
		delete(s.awaited, id)
	}
}

// next is closed with the next change of a Device.
func (s *Service) next(id contracts.DeviceID) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == nil {
		s.awaited = map[contracts.DeviceID]chan struct{}{}
	}
	if s.awaited[id] == nil {
		s.awaited[id] = make(chan struct{})
	}
	return s.awaited[id]
}

// known waits until the roster has the Device as it is in the cluster: until then the
// device would be told that nobody knows it.
func (s *Service) known(ctx context.Context, d *roster.Device) error {
	for {
		next := s.next(d.ID)
		if owner := s.owner(d.ID); owner != nil && (owner.PublicKey == d.PublicKey || owner.UID != d.UID) {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return fmt.Errorf("wait for the Device to be known: %w", context.Cause(ctx))
		}
	}
}

// Start answers until the context ends.
func (s *Service) Start(ctx context.Context) error {
	// While not every Device is known, a taken ID would be given away.
	if err := s.Gate.Wait(ctx); err != nil {
		return nil
	}
	var err error
	if s.operator, err = s.Keys.Signer.PublicKey(); err != nil {
		return fmt.Errorf("the operator's keys: %w", err)
	}
	if s.curve, err = s.Keys.Curve.PublicKey(); err != nil {
		return fmt.Errorf("the operator's keys: %w", err)
	}
	s.counter = &counter{Client: s.Client, log: s.Log, judge: func(c contracts.JoinClaim, t contracts.JoinToken, kept *jointoken.Token, taken int) verdict {
		return judge(c, t, kept, taken, s.owner(c.Device), s.Clock.Now())
	}}
	return bus.ServeJoins(ctx, s.Conn, s.answer, s.Log)
}

func (s *Service) owner(id contracts.DeviceID) *roster.Device {
	if d, ok := s.Roster.Owner(id); ok {
		return &d
	}
	return nil
}

// answer answers the device with a public key.
func (s *Service) answer(ctx context.Context, publicKey string, data []byte) ([]byte, error) {
	request, err := contracts.DecodeJoinRequest(data)
	if err != nil {
		return nil, err
	}
	ca, err := s.Authorities()
	if err != nil {
		return nil, err
	}
	statement := contracts.JoinStatement{Nonce: request.Nonce, PublicKey: publicKey, Operator: s.operator, Curve: s.curve, CA: string(ca), Time: s.Clock.Now().UTC()}
	if len(request.Claim) == 0 {
		s.stand(&statement, request.Device, s.owner(request.Device))
	} else if v := s.claim(ctx, &statement, request, publicKey); v.reason != "" {
		statement.Standing, statement.Reason, statement.Message = contracts.StandingRefused, v.reason, v.message
	}
	return contracts.SignJoin(statement, s.Keys.Signer)
}

// stand says how a device stands.
func (s *Service) stand(to *contracts.JoinStatement, id contracts.DeviceID, owner *roster.Device) {
	switch admission.StandingOf(owner, to.PublicKey) {
	case admission.Approved:
		to.Standing = contracts.StandingApproved
	case admission.Pending:
		to.Standing = contracts.StandingPending
		to.Message = fmt.Sprintf("waiting for approval: kubectl fleet approve %s -n %s", id, owner.Namespace)
	case admission.ShutOut:
		to.Standing = contracts.StandingShutOut
		to.Message = fmt.Sprintf("the Device %s is shut out: its spec.approved is false", id)
	default:
		to.Standing = contracts.StandingUnknown
		to.Message = fmt.Sprintf("no Device %s has this device's key: join with a token, or set spec.publicKey of the Device to %s", id, to.PublicKey)
		return
	}
	to.Namespace = owner.Namespace
}

// claim carries out what a device claims, or says why not.
func (s *Service) claim(ctx context.Context, to *contracts.JoinStatement, request contracts.JoinRequest, publicKey string) verdict {
	bad := func(err error) verdict { return refused(contracts.JoinBadRequest, "%v", err) }
	plain, err := s.Keys.Curve.Open(request.Claim, request.Sender)
	if err != nil {
		return bad(fmt.Errorf("the claim can't be unsealed: %w", err))
	}
	claim, err := contracts.DecodeJoinClaim(plain)
	if err != nil {
		return bad(err)
	}
	if claim.Device != request.Device || claim.PublicKey != publicKey {
		return bad(fmt.Errorf("the claim is that of another device"))
	}
	token, err := contracts.ParseJoinToken(claim.Token)
	if err != nil {
		return bad(err)
	}
	o, err := s.counter.redeem(ctx, claim, token)
	if err != nil {
		s.Log.Warn("a device can't join now", "device", claim.Device, "token", token.Namespace+"/"+token.ID, "error", err)
		return refused(contracts.JoinUnavailable, "the operator can't say now whether the device may join: try again")
	}
	v := o.verdict
	var device *roster.Device
	switch v.action {
	case refuse:
		s.refused(o, claim, token, publicKey)
		return v
	case agree:
		device = s.owner(claim.Device)
	case create, pin:
		if device, err = s.enter(ctx, claim, o.kept); err != nil {
			s.Log.Warn("a device can't join now", "device", claim.Device, "token", token.Namespace+"/"+token.ID, "error", err)
			return refused(contracts.JoinUnavailable, "the operator can't make the Device now: try again")
		}
		if device.PublicKey != publicKey {
			return judge(claim, token, o.kept, 0, device, s.Clock.Now())
		}
		if err := s.known(ctx, device); err != nil {
			s.Log.Warn("a device has joined, and is not known yet", "device", claim.Device, "error", err)
			return refused(contracts.JoinUnavailable, "the operator does not know the Device yet: try again")
		}
		s.Log.Info("a device has joined", "device", claim.Device, "namespace", token.Namespace, "token", token.ID, "publicKey", publicKey)
	}
	s.stand(to, claim.Device, device)
	return verdict{}
}

// refused tells people of a device that may not join.
func (s *Service) refused(o outcome, c contracts.JoinClaim, t contracts.JoinToken, publicKey string) {
	s.Log.Info("a device may not join", "device", c.Device, "token", t.Namespace+"/"+t.ID, "publicKey", publicKey, "reason", o.reason, "message", o.message)
	if o.secret == nil {
		return // nothing in the cluster that it would be about
	}
	s.Recorder.Warning(o.secret, nil, string(o.reason), "A device that says it is %s, with the key %s, wanted to join: %s", c.Device, publicKey, o.message)
	if owner := s.owner(c.Device); o.reason == contracts.JoinKeyMismatch && owner != nil {
		s.Recorder.Warning(object(owner), nil, string(o.reason), "A device with the key %s wanted to join: %s", publicKey, o.message)
	}
}

func object(d *roster.Device) *v1alpha1.Device {
	return &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: string(d.ID), UID: d.UID}}
}

// enter makes the Device, or gives the one that there is the key. It returns the Device as
// it is, which may have another key: somebody was faster.
func (s *Service) enter(ctx context.Context, c contracts.JoinClaim, token *jointoken.Token) (*roster.Device, error) {
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{
		Namespace: token.Namespace, Name: string(c.Device), Labels: token.Labels,
		Annotations: map[string]string{jointoken.AnnotationToken: token.ID}, Finalizers: []string{v1alpha1.Finalizer},
	}}
	d.Spec.PublicKey = c.PublicKey
	if token.AutoApprove {
		d.Spec.Approved = new(true)
	}
	err := s.Create(ctx, d, fieldOwner)
	if apierrors.IsAlreadyExists(err) {
		err = s.pin(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	if d.Spec.PublicKey == c.PublicKey {
		s.Recorder.Normal(d, nil, v1alpha1.ReasonJoined, "A device has joined with the token %s, its key is %s", token.ID, c.PublicKey)
	}
	return roster.Of(d), nil
}

// pin gives the Device that there is the key of the wanted one, unless it has one.
func (s *Service) pin(ctx context.Context, wanted *v1alpha1.Device) error {
	there := &v1alpha1.Device{}
	if err := s.Get(ctx, client.ObjectKeyFromObject(wanted), there); err != nil {
		return err
	}
	if there.Spec.PublicKey == "" && there.DeletionTimestamp == nil {
		patch := client.MergeFromWithOptions(there.DeepCopy(), client.MergeFromWithOptimisticLock{})
		there.Spec.PublicKey = wanted.Spec.PublicKey
		if there.Spec.Approved == nil {
			there.Spec.Approved = wanted.Spec.Approved
		}
		metav1.SetMetaDataAnnotation(&there.ObjectMeta, jointoken.AnnotationToken, wanted.Annotations[jointoken.AnnotationToken])
		if err := s.Patch(ctx, there, patch, fieldOwner); err != nil {
			return err
		}
	}
	*wanted = *there
	return nil
}
