package operator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/join"
	"github.com/nationtech/fleet/agent/trust"
	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

// token makes a join token as kubectl fleet token create does.
func (f *fleet) token(change func(*jointoken.Token)) contracts.JoinToken {
	f.Helper()
	keys, err := bus.ReadKeys(filepath.Join(f.seeds, "operator"))
	must(f.T, err)
	signer, err := keys.Signer.PublicKey()
	must(f.T, err)
	fingerprint, err := contracts.Fingerprint(signer)
	must(f.T, err)
	secret := contracts.NewJoinSecret()
	kept := &jointoken.Token{
		Namespace: f.namespace, ID: strings.ToLower(secret[:8]), Hash: jointoken.HashOf(secret), Expires: time.Now().Add(time.Hour),
		Labels: map[string]string{"run": "yes", "site": "berlin"},
	}
	if change != nil {
		change(kept)
	}
	must(f.T, f.client.Create(f.Context(), kept.Secret()))
	return contracts.JoinToken{Namespace: f.namespace, ID: kept.ID, Secret: secret, Fingerprint: fingerprint}
}

// joiner is a device that joins.
type joiner struct {
	join.Options
	mu   sync.Mutex
	said []string
}

func (f *fleet) joiner(id string, token contracts.JoinToken) *joiner {
	dir := f.TempDir()
	j := &joiner{Options: join.Options{
		Server: f.nats, Device: contracts.DeviceID(id), Token: token.String(), SeedFile: filepath.Join(dir, "identity.nk"), StateDir: dir,
		Patience: 20 * time.Second, Log: slog.New(slog.DiscardHandler),
	}}
	j.Tell = func(format string, args ...any) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.said = append(j.said, fmt.Sprintf(format, args...))
	}
	return j
}

func (j *joiner) join(t *testing.T) (contracts.JoinStatement, error) {
	t.Helper()
	return join.Join(t.Context(), j.Options)
}

func (f *fleet) get1(id string) *v1alpha1.Device {
	f.Helper()
	d := &v1alpha1.Device{}
	must(f.T, f.client.Get(f.Context(), client.ObjectKey{Namespace: f.namespace, Name: id}, d))
	return d
}

// decide sets spec.approved.
func (f *fleet) decide(id string, approved *bool) {
	f.Helper()
	d := f.get1(id)
	patch := client.MergeFrom(d.DeepCopy())
	d.Spec.Approved = approved
	must(f.T, f.client.Patch(f.Context(), d, patch))
}

func refusedWith(t *testing.T, err error, reason contracts.JoinReason, says string) {
	t.Helper()
	var refused *join.RefusedError
	if !errors.As(err, &refused) || refused.Reason != reason || !strings.Contains(err.Error(), says) {
		t.Errorf("it ends with %v, want %s with %q", err, reason, says)
	}
}

// unique is an ID that no other test has.
func unique(t *testing.T, id string) string {
	return strings.ToLower(fmt.Sprintf("%s-%d", id, time.Now().UnixNano()%1e9))
}

func TestADeviceJoinsAndIsApproved(t *testing.T) {
	f := newFleet(t)
	id := unique(t, "till")
	j := f.joiner(id, f.token(func(k *jointoken.Token) { k.Uses = 1 }))
	j.Wait = true
	type ending struct {
		contracts.JoinStatement
		err error
	}
	done := make(chan ending, 1)
	go func() {
		s, err := j.join(t)
		done <- ending{s, err}
	}()
	f.event(f.namespace, id, v1alpha1.ReasonJoined)
	d := f.get1(id)
	key, err := identity.Public(j.SeedFile)
	must(t, err)
	if d.Spec.PublicKey != key || d.Spec.Approved != nil || d.Labels["site"] != "berlin" || d.Annotations[jointoken.AnnotationToken] == "" {
		t.Errorf("the Device is %+v, with the labels %v", d.Spec, d.Labels)
	}
	select {
	case e := <-done:
		t.Fatalf("it has joined before it was approved: %v, %v", e.Standing, e.err)
	default:
	}
	begun := time.Now()
	f.decide(id, new(true))
	e := <-done
	must(t, e.err)
	t.Logf("from approval to the end of join: %v", time.Since(begun))
	if e.Standing != contracts.StandingApproved || e.Namespace != f.namespace {
		t.Errorf("it ends with %+v", e.JoinStatement)
	}
	kept, err := trust.Load(j.StateDir)
	must(t, err)
	if kept.Operator == "" || kept.Server != f.nats || string(kept.Device) != id {
		t.Errorf("it trusts %+v", kept)
	}

	// Joining again changes nothing, although the token is used up.
	if s, err := j.join(t); err != nil || s.Standing != contracts.StandingApproved {
		t.Errorf("the second time it ends with %v, %v", s.Standing, err)
	}
	_, err = f.joiner(unique(t, "till"), mustToken(t, j.Token)).join(t)
	refusedWith(t, err, contracts.JoinTokenUsedUp, "1 devices have joined")
	f.event(f.namespace, jointoken.SecretName(mustToken(t, j.Token).ID), string(contracts.JoinTokenUsedUp))
}

func mustToken(t *testing.T, text string) contracts.JoinToken {
	t.Helper()
	token, err := contracts.ParseJoinToken(text)
	must(t, err)
	return token
}

func TestJoinSaysWhatIsWrong(t *testing.T) {
	f := newFleet(t)
	good := f.token(nil)
	taken := f.newID()
	f.approve(taken)
	elsewhere := newFleetIn(f)

	t.Run("an expired token", func(t *testing.T) {
		token := f.token(func(k *jointoken.Token) { k.Expires = time.Now().Add(-time.Minute) })
		_, err := f.joiner(unique(t, "till"), token).join(t)
		refusedWith(t, err, contracts.JoinTokenExpired, "expired at")
		f.event(f.namespace, jointoken.SecretName(token.ID), string(contracts.JoinTokenExpired))
	})
	t.Run("a wrong secret", func(t *testing.T) {
		wrong := good
		wrong.Secret = contracts.NewJoinSecret()
		_, err := f.joiner(unique(t, "till"), wrong).join(t)
		refusedWith(t, err, contracts.JoinUnknownToken, "revoked")
		f.event(f.namespace, jointoken.SecretName(good.ID), string(contracts.JoinUnknownToken))
	})
	t.Run("a revoked token", func(t *testing.T) {
		token := f.token(nil)
		secret := (&jointoken.Token{Namespace: token.Namespace, ID: token.ID}).Secret()
		must(t, f.client.Delete(t.Context(), secret))
		_, err := f.joiner(unique(t, "till"), token).join(t)
		refusedWith(t, err, contracts.JoinUnknownToken, "revoked")
	})
	t.Run("a token of a namespace that is no team's", func(t *testing.T) {
		must(t, f.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: nobodys}}))
		nowhere := *f
		nowhere.namespace = nobodys
		_, err := f.joiner(unique(t, "till"), nowhere.token(nil)).join(t)
		refusedWith(t, err, contracts.JoinUnknownToken, "revoked")
	})
	t.Run("the ID of another namespace's device", func(t *testing.T) {
		_, err := f.joiner(string(taken), elsewhere.token(nil)).join(t)
		refusedWith(t, err, contracts.JoinIDTaken, "--device")
		if strings.Contains(err.Error(), f.namespace) {
			t.Error("it says in which namespace")
		}
	})
	t.Run("a device that was set up anew", func(t *testing.T) {
		j := f.joiner(string(taken), good)
		_, err := j.join(t)
		refusedWith(t, err, contracts.JoinKeyMismatch, "kubectl fleet device reset-key "+string(taken))
		f.event(f.namespace, string(taken), string(contracts.JoinKeyMismatch))
		// Somebody takes the key out, and it may join.
		d := f.get1(string(taken))
		patch := client.MergeFrom(d.DeepCopy())
		d.Spec.PublicKey = ""
		must(t, f.client.Patch(t.Context(), d, patch))
		eventually(t, func() string {
			s, err := j.join(t)
			if err != nil || s.Standing != contracts.StandingApproved {
				return fmt.Sprintf("it ends with %v, %v", s.Standing, err)
			}
			return ""
		})
	})
	t.Run("another operator", func(t *testing.T) {
		other := good
		other.Fingerprint = strings.Repeat("a", len(good.Fingerprint))
		j := f.joiner(unique(t, "till"), other)
		_, err := j.join(t)
		if err == nil || !strings.Contains(err.Error(), "another fleet's, or somebody is on the way") {
			t.Errorf("it ends with %v", err)
		}
		if _, err := trust.Load(j.StateDir); !errors.Is(err, trust.ErrNotJoined) {
			t.Errorf("it trusts somebody: %v", err)
		}
	})
	t.Run("no token, and no Device with the key", func(t *testing.T) {
		j := f.joiner(unique(t, "till"), good)
		j.Token, j.Fingerprint = "", good.Fingerprint
		_, err := j.join(t)
		refusedWith(t, err, contracts.JoinReason(contracts.StandingUnknown), "spec.publicKey")
	})
	t.Run("no token, and a Device in Git with the key", func(t *testing.T) {
		j := f.joiner(unique(t, "till"), good)
		j.Token, j.Fingerprint = "", good.Fingerprint
		key, err := identity.Ensure(j.SeedFile)
		must(t, err)
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: string(j.Device)}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), key
		must(t, f.client.Create(t.Context(), d))
		eventually(t, func() string {
			s, err := j.join(t)
			if err != nil || s.Standing != contracts.StandingApproved {
				return fmt.Sprintf("it ends with %v, %v", s.Standing, err)
			}
			return ""
		})
	})
	t.Run("approval by the token", func(t *testing.T) {
		j := f.joiner(unique(t, "till"), f.token(func(k *jointoken.Token) { k.AutoApprove = true }))
		if s, err := j.join(t); err != nil || s.Standing != contracts.StandingApproved {
			t.Errorf("it ends with %v, %v", s.Standing, err)
		}
	})
}

// newFleetIn is another namespace of the same operator.
func newFleetIn(f *fleet) *fleet {
	f.Helper()
	other := *f
	other.namespace = f.team()
	return &other
}

// A token for three devices lets three of twenty in that come at once.
func TestATokenIsNotUsedMoreOftenThanItMay(t *testing.T) {
	f := newFleet(t)
	token := f.token(func(k *jointoken.Token) { k.Uses = 3 })
	results := make([]error, 20)
	var joining sync.WaitGroup
	for n := range results {
		j := f.joiner(unique(t, fmt.Sprintf("till-%d", n)), token)
		joining.Go(func() { _, results[n] = join.Join(t.Context(), j.Options) })
	}
	joining.Wait()
	in := 0
	for _, err := range results {
		if err == nil {
			in++
			continue
		}
		refusedWith(t, err, contracts.JoinTokenUsedUp, "3 devices have joined")
	}
	devices := &v1alpha1.DeviceList{}
	must(t, f.client.List(t.Context(), devices, client.InNamespace(f.namespace)))
	if in != 3 || len(devices.Items) != 3 {
		t.Errorf("%d are in, and there are %d Devices", in, len(devices.Items))
	}
}

// Whoever is shut out is disconnected, stays out, and is in again when that is taken back.
func TestShutOut(t *testing.T) {
	f := newFleet(t)
	f.deploy("app", nil)
	id := f.device(simulated.Running).id
	nc := f.connect(t, string(id))
	lost := make(chan time.Time, 100)
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) { lost <- time.Now() })
	connected := func() string {
		if !nc.IsConnected() {
			return fmt.Sprintf("it is %v, %v", nc.Status(), nc.LastError())
		}
		return ""
	}
	eventually(t, connected)
	eventually(t, func() string {
		if _, ok := f.keys()[string(id)+".app"]; !ok {
			return "it is told nothing"
		}
		return ""
	})
	begun := time.Now()
	f.decide(string(id), new(false))
	select {
	case at := <-lost:
		t.Logf("disconnected %v after spec.approved was set to false", at.Sub(begun))
	case <-time.After(5 * time.Second):
		t.Fatal("it is still connected")
	}
	eventually(t, func() string {
		for key := range f.keys() {
			if strings.HasPrefix(key, string(id)+".") {
				return key + " is still there"
			}
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if nc.IsConnected() {
			t.Fatal("it is connected again")
		}
		time.Sleep(20 * time.Millisecond) // a state that must not come about
	}
	f.decide(string(id), new(true))
	eventually(t, connected)

	// Deleting its Device is as good.
	must(t, f.client.Delete(t.Context(), f.get1(string(id))))
	eventually(t, func() string {
		if nc.IsConnected() {
			return "it is still connected"
		}
		err := f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: string(id)}, &v1alpha1.Device{})
		if !apierrors.IsNotFound(err) {
			return fmt.Sprintf("its Device is there: %v", err)
		}
		return ""
	})
}

// A device that is revoked while no operator runs is disconnected by the next one.
func TestShutOutWhileNoOperatorRuns(t *testing.T) {
	f := newFleet(t)
	id := f.newID()
	f.approve(id)
	nc := f.connect(t, string(id))
	eventually(t, func() string {
		if !nc.IsConnected() {
			return "it is not connected"
		}
		return ""
	})
	f.stop()
	f.decide(string(id), new(false))
	must(t, nc.Flush())
	f.stop = f.startOperator()
	eventually(t, func() string {
		if nc.IsConnected() {
			return "it is still connected"
		}
		return ""
	})
}
