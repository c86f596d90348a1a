package bus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// calloutSubject is where a server asks whether somebody may connect
// (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout).
const calloutSubject = "$SYS.REQ.USER.AUTH"

// calloutQueue is the queue group of the operators that answer.
const calloutQueue = "fleet-operator"

// Admit says whether somebody may connect who has shown that the key is theirs, and for
// how long; 0 is without end. An error is why not.
type Admit func(Caller) (time.Duration, error)

// AuthTimeout is how long the server waits for an answer; whoever connects has failed
// then, and tries again.
const AuthTimeout = 10 * time.Second

// stale is when a question is no longer answered: the server might not take it, and
// whoever is in time would wait behind it. Without this, a fleet that connects at once
// never would.
const stale = AuthTimeout - time.Second

// ServeCallout answers the server's question who may connect until the context ends.
// Each question is answered by one operator of those that serve.
func ServeCallout(ctx context.Context, nc *nats.Conn, issuer nkeys.KeyPair, admit Admit, log *slog.Logger) error {
	c := &callout{issuer: issuer, admit: admit, log: log}
	type question struct {
		*nats.Msg
		came time.Time
	}
	questions := make(chan question, 1<<16)
	var subs []*nats.Subscription
	for _, subject := range []string{calloutSubject, siteCallout} {
		sub, err := nc.QueueSubscribe(subject, calloutQueue, func(m *nats.Msg) {
			select {
			case questions <- question{m, time.Now()}:
			default:
				// Nobody would be in time at the end of such a queue.
			}
		})
		if err != nil {
			return fmt.Errorf("listen to who wants to connect: %w", err)
		}
		subs = append(subs, sub)
	}
	var answering sync.WaitGroup
	defer answering.Wait()
	for range runtime.GOMAXPROCS(0) {
		answering.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-questions:
					if time.Since(q.came) < stale {
						c.handle(q.Msg)
					}
				}
			}
		})
	}
	<-ctx.Done()
	for _, sub := range subs {
		if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("listen no longer to who wants to connect: %w", err)
		}
	}
	return nil
}

type callout struct {
	issuer nkeys.KeyPair
	admit  Admit
	log    *slog.Logger
}

func (c *callout) handle(m *nats.Msg) {
	request, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		c.log.Warn("a question who may connect can't be read", "error", err)
		return
	}
	answer, err := c.answer(request, m.Subject == siteCallout)
	if err != nil {
		c.log.Warn("a question who may connect can't be answered", "error", err)
		return
	}
	if err := m.Respond([]byte(answer)); err != nil {
		// Whoever connects tries again.
		c.log.Warn("answer who may connect", "error", err)
	}
}

// answer is a signed one, whether it lets somebody in or not.
func (c *callout) answer(request *jwt.AuthorizationRequestClaims, site bool) (string, error) {
	response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	response.Audience = request.Server.ID
	user, err := c.user(request, site)
	if err != nil {
		c.log.Info("somebody may not connect", "host", request.ClientInformation.Host, "as", request.ConnectOptions.Token, "key", request.ConnectOptions.Nkey, "error", err)
		response.Error = err.Error()
	} else {
		response.Jwt = user
	}
	return response.Encode(c.issuer)
}

// user is what the server has to know of a device that may connect, at a site's server or
// at one of the operator's own.
func (c *callout) user(request *jwt.AuthorizationRequestClaims, site bool) (string, error) {
	if err := verifyNonce(&request.ConnectOptions, request.ClientInformation.Nonce); err != nil {
		return "", err
	}
	caller, err := parseCaller(request.ConnectOptions.Token, request.ConnectOptions.Nkey)
	if err != nil {
		return "", err
	}
	lasts, err := c.admit(caller)
	if err != nil {
		return "", err
	}
	if again := siteLasts*3/4 + rand.N(siteLasts/2); site && (lasts == 0 || lasts > again) {
		lasts = again
	}
	user := jwt.NewUserClaims(request.UserNkey)
	user.Name, user.Audience = caller.name(), AccountDevices
	if lasts > 0 {
		user.Expires = time.Now().Add(lasts).Unix()
	}
	p := caller.permissions()
	if site {
		p = p.atSite()
	}
	user.Pub.Allow, user.Sub.Allow = p.Publish, p.Subscribe
	user.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: answerTime}
	return user.Encode(c.issuer)
}

// verifyNonce checks that who connects has the key that it says it has. The server does
// not, when it asks.
func verifyNonce(o *jwt.ConnectOptions, nonce string) error {
	switch {
	case o.Nkey == "":
		return errors.New("it has no NKey")
	case !nkeys.IsValidPublicUserKey(o.Nkey):
		return errors.New("its NKey is not a user's")
	case nonce == "":
		return errors.New("the server has given it no nonce to sign")
	}
	key, err := nkeys.FromPublicKey(o.Nkey)
	if err != nil {
		return fmt.Errorf("its NKey: %w", err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(o.SignedNonce)
	if err != nil {
		return fmt.Errorf("its signature can't be read: %w", err)
	}
	if key.Verify([]byte(nonce), signature) != nil {
		return errors.New("its signature is wrong: it has not the key that it says it has")
	}
	return nil
}
