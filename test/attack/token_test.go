package attack

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// token is a real one, made as people do.
func (w *world) token(args ...string) contracts.JoinToken {
	w.Helper()
	text, err := w.Kubectl(w.Context(), append([]string{"token", "create", "--namespace", env.Namespace}, args...)...)
	must(w.T, err)
	token, err := contracts.ParseJoinToken(text)
	must(w.T, err)
	return token
}

// kept is the Secret of a token.
func (w *world) kept(token contracts.JoinToken) *corev1.Secret {
	w.Helper()
	secret := &corev1.Secret{}
	must(w.T, w.Client.Get(w.Context(), client.ObjectKey{Namespace: token.Namespace, Name: jointoken.SecretName(token.ID)}, secret))
	return secret
}

// ask asks the operator once, as somebody with a key.
func (w *world) ask(h *hostile, public string, request contracts.JoinRequest) contracts.JoinStatement {
	w.Helper()
	if request.Nonce == "" {
		request.Nonce = "0123456789abcdef"
	}
	// Who asks is disconnected when there is a decision, and comes back.
	w.until("it is connected", func(context.Context) error {
		if !h.IsConnected() {
			return fmt.Errorf("%s: %w", h.Status(), h.LastError())
		}
		return nil
	})
	reply, err := bus.AskToJoin(w.Context(), h.Conn, public, encode(request))
	must(w.T, err)
	statement, err := contracts.OpenJoin(reply, request.Nonce, public)
	must(w.T, err)
	return statement
}

// claim is a request with a token, sealed to the operator.
func (w *world) claim(device, public, token string) contracts.JoinRequest {
	w.Helper()
	keys, err := bus.ReadKeys(w.OperatorSeed())
	must(w.T, err)
	operator, err := keys.Curve.PublicKey() // which the operator tells everybody
	must(w.T, err)
	sender, err := nkeys.CreateCurveKeys()
	must(w.T, err)
	request := contracts.JoinRequest{Device: contracts.DeviceID(device)}
	request.Sender, err = sender.PublicKey()
	must(w.T, err)
	request.Claim, err = sender.Seal(encode(contracts.JoinClaim{Device: contracts.DeviceID(device), PublicKey: public, Token: token, Time: time.Now()}), operator)
	must(w.T, err)
	return request
}

func (w *world) byToken() {
	w.vain("guesses tokens", func(w *world) {
		token := w.token()
		key, public := newKey(w.T)
		h := w.connect("guesser", key, true)
		guess := func(change func(*contracts.JoinToken)) string {
			t := token
			change(&t)
			return t.String()
		}
		other := func(t *contracts.JoinToken) { t.Secret = contracts.NewJoinSecret() }
		var first contracts.JoinStatement
		for n, g := range []struct{ what, device, token string }{
			{"another secret", "free", guess(other)},
			{"another secret, for an ID that is taken", w.victim.ID, guess(other)},
			{"a token that there is not", "free", guess(func(t *contracts.JoinToken) { t.ID = "nothing" })},
			{"a token that there is not, for an ID that is taken", w.victim.ID, guess(func(t *contracts.JoinToken) { t.ID = "nothing" })},
			{"a namespace that there is not", "free", guess(func(t *contracts.JoinToken) { t.Namespace = "nowhere" })},
			{"a namespace that the operator may not read", "free", guess(func(t *contracts.JoinToken) { t.Namespace = "kube-system" })},
			{"the operator's own namespace", w.victim.ID, guess(func(t *contracts.JoinToken) { t.Namespace = "fleet-system" })},
		} {
			s := w.ask(h, public, w.claim(g.device, public, g.token))
			if n == 0 {
				first = s
			}
			if s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinUnknownToken || s.Message != first.Message || s.Namespace != "" {
				w.Errorf("%s: it learns %s %s %q of namespace %q", g.what, s.Standing, s.Reason, s.Message, s.Namespace)
			}
		}
		// Without a token, an ID that is taken looks like one that is free.
		taken, free := w.ask(h, public, contracts.JoinRequest{Device: contracts.DeviceID(w.victim.ID)}), w.ask(h, public, contracts.JoinRequest{Device: "sim-99"})
		if taken.Standing != contracts.StandingUnknown || free.Standing != contracts.StandingUnknown || taken.Namespace != "" ||
			strings.ReplaceAll(taken.Message, w.victim.ID, "sim-99") != free.Message {
			w.Errorf("of an ID that is taken it learns %+v, of a free one %+v", taken, free)
		}
		start, tries := time.Now(), 0
		for ; time.Since(start) < time.Second; tries++ {
			w.ask(h, public, w.claim("free", public, guess(other)))
		}
		w.Logf("one connection guesses %d secrets of 2^128 a second", tries)
		if got := string(w.kept(token).Data["used"]); got != "0" {
			w.Errorf("the token counts as used %s times", got)
		}
	})

	w.vain("reads the token's Secret back", func(w *world) {
		token := w.token()
		secret := w.kept(token)
		for name, value := range secret.Data {
			if strings.Contains(string(value), token.Secret) {
				w.Errorf("%s holds the token: %s", name, value)
			}
		}
		if strings.Contains(fmt.Sprint(secret.ObjectMeta), token.Secret) {
			w.Error("the Secret's own data hold the token")
		}
		hash, err := hex.DecodeString(string(secret.Data["hash"]))
		must(w.T, err)
		key, public := newKey(w.T)
		h := w.connect("reader", key, true)
		for _, made := range []string{string(secret.Data["hash"])[:26], base32Of(hash)} {
			t := token
			t.Secret = made
			if s := w.ask(h, public, w.claim("reader", public, t.String())); s.Standing != contracts.StandingRefused {
				w.Errorf("with what the Secret holds it is %s", s.Standing)
			}
		}
	})

	w.vain("joins as a device that there is", func(w *world) {
		token := w.token("--uses", "5", "--approve", "auto")
		key, public := newKey(w.T)
		h := w.connect(w.victim.ID, key, true)
		s := w.ask(h, public, w.claim(w.victim.ID, public, token.String()))
		if s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinKeyMismatch {
			w.Errorf("it is told %+v", s)
		}
		// With the victim's public key in the claim, over a connection of its own key.
		s = w.ask(h, public, w.claim(w.victim.ID, w.victim.PublicKey, token.String()))
		if s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinBadRequest {
			w.Errorf("with the victim's key in the claim it is told %+v", s)
		}
		for what, request := range map[string]contracts.JoinRequest{
			"a claim that is for another device": func() contracts.JoinRequest {
				r := w.claim("free", public, token.String())
				r.Device = contracts.DeviceID(w.victim.ID)
				return r
			}(),
			"a claim that was changed": func() contracts.JoinRequest {
				r := w.claim("free", public, token.String())
				r.Claim[len(r.Claim)-1] ^= 1
				return r
			}(),
			"a claim that is none": {Device: "free", Claim: []byte("xkv1 nonsense"), Sender: w.claim("free", public, "x").Sender},
		} {
			if s := w.ask(h, public, request); s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinBadRequest {
				w.Errorf("%s: it is told %+v", what, s)
			}
		}
		if got := string(w.kept(token).Data["used"]); got != "0" {
			w.Errorf("the token counts as used %s times", got)
		}
	})

	token := w.token("--uses", "2", "--approve", "auto")
	key, public := newKey(w.T)
	h := w.connect("joiner", key, true)
	claim := w.claim("joiner", public, token.String())
	if s := w.ask(h, public, claim); s.Standing != contracts.StandingApproved {
		w.Fatalf("a device that may join is told %+v", s)
	}
	w.vain("repeats the claim of another", func(w *world) {
		thief, stolen := newKey(w.T)
		other := w.connect("joiner", thief, true)
		if s := w.ask(other, stolen, claim); s.Standing != contracts.StandingRefused || s.Reason != contracts.JoinBadRequest {
			w.Errorf("with a key of its own it is told %+v", s)
		}
		if s := w.ask(h, public, claim); s.Standing != contracts.StandingApproved {
			w.Errorf("the device itself is told %+v", s)
		}
		if got := string(w.kept(token).Data["used"]); got != "1" {
			w.Errorf("the token counts as used %s times", got)
		}
	})
	must(w.T, w.Client.Delete(w.Context(), &v1alpha1.Device{ObjectMeta: w.object("joiner")}))
	w.until("the Device is gone", func(ctx context.Context) error {
		err := w.Client.Get(ctx, client.ObjectKey{Namespace: env.Namespace, Name: "joiner"}, &v1alpha1.Device{})
		if client.IgnoreNotFound(err) == nil && err != nil {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
}
