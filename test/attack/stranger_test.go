package attack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

func newKey(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	must(t, err)
	public, err := key.PublicKey()
	must(t, err)
	return key, public
}

// byStranger tries to get in.
func (w *world) byStranger() {
	own, public := newKey(w.T)
	attacker := w.key(w.attacker)
	keys, err := bus.ReadKeys(w.OperatorSeed())
	must(w.T, err)
	operator, err := keys.User.PublicKey()
	must(w.T, err)
	system, err := keys.System.PublicKey()
	must(w.T, err)
	unsigned := func([]byte) ([]byte, error) { return nil, nil }
	forged := w.forgedJWT(public)
	victim := "device." + w.victim.ID
	w.vain("connects as another", func(w *world) {
		for name, options := range map[string][]nats.Option{
			"nobody":                               nil,
			"the victim, without a key":            {nats.Token(victim)},
			"the victim, with a key of its own":    {nats.Token(victim), nats.Nkey(public, own.Sign)},
			"the victim, with an approved key":     {nats.Token(victim), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"the victim, whose key it has not":     {nats.Token(victim), nats.Nkey(w.victim.PublicKey, own.Sign)},
			"the victim, without a signature":      {nats.Token(victim), nats.Nkey(w.victim.PublicKey, unsigned)},
			"who joins, whose key it has not":      {nats.Token("joining." + w.victim.ID), nats.Nkey(w.victim.PublicKey, own.Sign)},
			"a device that there is not":           {nats.Token("device.nobody"), nats.Nkey(public, own.Sign)},
			"itself and another":                   {nats.Token("device." + w.attacker.ID + "." + w.victim.ID), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"every device":                         {nats.Token("device.*"), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"every device and more":                {nats.Token("device.>"), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"a device in capitals":                 {nats.Token(strings.ToUpper(victim)), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"no device":                            {nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"an operator by its role":              {nats.Token("operator." + w.attacker.ID), nats.Nkey(w.attacker.PublicKey, attacker.Sign)},
			"the operator, whose key it has not":   {nats.Nkey(operator, own.Sign)},
			"the operator, without a signature":    {nats.Nkey(operator, unsigned)},
			"the system's user":                    {nats.Nkey(system, own.Sign)},
			"a user with a password":               {nats.UserInfo("OPS", "OPS")},
			"the operator's key as a name":         {nats.UserInfo(operator, "")},
			"with a JWT that it signed":            {nats.UserJWT(func() (string, error) { return forged, nil }, own.Sign), nats.Token(victim)},
			"with a JWT and the victim's key":      {nats.UserJWT(func() (string, error) { return forged, nil }, own.Sign), nats.Token(victim), func(o *nats.Options) error { o.Nkey = w.victim.PublicKey; return nil }},
			"the victim, over a WebSocket's words": {nats.Token("{\"device\":\"" + w.victim.ID + "\"}"), nats.Nkey(public, own.Sign)},
		} {
			if err := w.dial(options...); err == nil {
				w.Errorf("%s: it is let in", name)
			} else if !errors.Is(err, nats.ErrAuthorization) && !strings.Contains(err.Error(), "nkeys not supported") && !errors.Is(err, nats.ErrNkeyAndUser) {
				w.Errorf("%s: %v", name, err)
			}
		}
	})
	w.vain("speaks another TLS, or none", func(w *world) {
		own := []nats.Option{nats.Token("device." + w.attacker.ID), nats.Nkey(w.attacker.PublicKey, attacker.Sign)}
		must(w.T, w.dial(own...)) // with TLS 1.3 it is let in
		old := func(o *nats.Options) error {
			o.TLSConfig.MaxVersion = tls.VersionTLS12
			return nil
		}
		if err := w.dial(append(own, old)...); err == nil {
			w.Error("it is let in with TLS 1.2")
		}
		clear := func(o *nats.Options) error {
			o.Secure, o.TLSConfig = false, nil
			o.Url = strings.Replace(o.Url, "tls://", "nats://", 1)
			return nil
		}
		// This client turns to TLS by itself when the server wants it; then it has to
		// check the certificate, and knows no authority.
		if err := w.dial(append(own, clear)...); err == nil {
			w.Error("it is let in without the fleet's authority")
		}
	})
	w.vain("reaches out while it asks to join", func(w *world) {
		h := w.connect(w.victim.ID, own, true)
		for _, subject := range append(w.others(), "fleet.ds."+w.attacker.ID+".*", "_INBOX_"+w.attacker.ID+".>") {
			h.listen(subject, "")
		}
		h.refused("subscription", w.others())
		var all []string
		reachable := w.reachable()
		for bucket, value := range map[contracts.Bucket][]byte{contracts.BucketDeviceState: nil, contracts.BucketDeviceInfo: nil, contracts.BucketDeviceHeartbeat: nil} {
			reachable[keyOf(bucket, w.attacker.ID, app)] = value
		}
		for subject, data := range reachable {
			h.send(&nats.Msg{Subject: subject, Data: data})
			all = append(all, subject)
		}
		h.refused("publish", all)
		w.talk()
		for subject := range h.heard {
			if m := h.messages(subject); len(m) > 0 {
				w.Errorf("subscribed to %s it hears %s", subject, m[0].Subject)
			}
		}
	})
	w.vain("has the operator's answer go elsewhere while it asks to join", func(w *world) {
		ear, hears := w.eavesdrop()
		h := w.connect("nobody", own, true)
		ask := encode(contracts.JoinRequest{Device: contracts.DeviceID(w.victim.ID), Nonce: "0123456789abcdef"})
		w.divert(h, []request{{subject: contracts.JoinSubject(public), data: ask, inTurn: true}})
		w.diverted(ear, hears, 1)
	})
}

// dial connects, with what everybody has who is in the network.
func (w *world) dial(options ...nats.Option) error {
	w.Helper()
	ca, err := os.ReadFile(w.CAFile())
	must(w.T, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	options = append([]nats.Option{nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}), nats.MaxReconnects(0), nats.Timeout(10 * time.Second)}, options...)
	nc, err := nats.Connect(w.ControlPlane.NATS, options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	return nc.Flush()
}

// forgedJWT says that a key may do everything, signed by somebody's account.
func (w *world) forgedJWT(public string) string {
	account, err := nkeys.CreateAccount()
	must(w.T, err)
	user := jwt.NewUserClaims(public)
	user.Name, user.Audience = "device."+w.victim.ID+"."+w.victim.PublicKey, bus.AccountDevices
	user.Pub.Allow, user.Sub.Allow = []string{">"}, []string{">"}
	text, err := user.Encode(account)
	must(w.T, err)
	return text
}
