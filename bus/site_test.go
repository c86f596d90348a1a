package bus

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func seedOf(t *testing.T, make func() (nkeys.KeyPair, error)) (seed []byte, public string) {
	t.Helper()
	pair, err := make()
	must(t, err)
	seed, err = pair.Seed()
	must(t, err)
	public, err = pair.PublicKey()
	must(t, err)
	return seed, public
}

func TestSiteConfigSaysWhatIsWrong(t *testing.T) {
	seed, _ := seedOf(t, nkeys.CreateUser)
	account, issuer := seedOf(t, nkeys.CreateAccount)
	hub := []string{"tls://nats.example.com:7422"}
	for _, tt := range []struct {
		name string
		o    SiteOptions
		want string
	}{
		{"no name", SiteOptions{Hub: hub, Issuer: issuer, Seed: seed}, "name of a site"},
		{"a name with a dot", SiteOptions{Name: "a.b", Hub: hub, Issuer: issuer, Seed: seed}, "name of a site"},
		{"no seed", SiteOptions{Name: "a", Hub: hub, Issuer: issuer}, "the site's seed"},
		{"an account's seed", SiteOptions{Name: "a", Hub: hub, Issuer: issuer, Seed: account}, "not that of a user"},
		{"no issuer", SiteOptions{Name: "a", Hub: hub, Seed: seed}, "the issuer"},
		{"no hub", SiteOptions{Name: "a", Issuer: issuer, Seed: seed}, "servers are is missing"},
		{"a hub in clear", SiteOptions{Name: "a", Hub: []string{"nats://127.0.0.1:7422"}, Issuer: issuer, Seed: seed}, "tls://"},
	} {
		if _, err := SiteConfig(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want something of %q", tt.name, err, tt.want)
		}
	}
	config, err := SiteConfig(SiteOptions{Name: "a", Hub: hub, Issuer: issuer, Seed: seed})
	must(t, err)
	// Its devices, too, come back at once when it starts anew.
	if want := fmt.Sprintf(`"connection_rate_limit":%d`, handshakeRate); !strings.Contains(strings.ReplaceAll(string(config), " ", ""), want) {
		t.Errorf("there is no %s in %s", want, config)
	}
	if _, err := IssuerOf([]byte(`{"accounts": {}}`)); err == nil {
		t.Error("a configuration without an issuer is no error")
	}
}

func TestServerConfigSaysWhatIsWrongWithASite(t *testing.T) {
	seed, public := seedOf(t, nkeys.CreateUser)
	keys, err := KeysOf(seed)
	must(t, err)
	tls := &ServerTLS{CertFile: "tls.crt", KeyFile: "tls.key"}
	_, key := seedOf(t, nkeys.CreateUser)
	for name, sites := range map[string]map[string]string{
		"no key": {"a": ""}, "two with one key": {"a": key, "b": key}, "the operator's key": {"a": public}, "a bad name": {"a.*": key},
	} {
		if _, err := keys.ServerConfig(tls, nil, sites); err == nil {
			t.Errorf("%s: is no error", name)
		}
	}
	if _, err := keys.ServerConfig(nil, nil, map[string]string{"a": key}); err == nil {
		t.Error("sites without TLS: is no error")
	}
	config, err := keys.ServerConfig(tls, nil, map[string]string{"a": key})
	must(t, err)
	issuer, err := IssuerOf(config)
	must(t, err)
	if want, _ := keys.Issuer.PublicKey(); issuer != want {
		t.Errorf("the issuer is %s, want %s", issuer, want)
	}
	if strings.Contains(string(config), string(seed)) || !json.Valid(config) {
		t.Error("the configuration has a seed in it, or is no JSON")
	}
}

// A site's server is out of the operator's reach, so a device has to ask again there.
func TestADeviceIsLetInAtASiteForAWhile(t *testing.T) {
	issuer, err := nkeys.CreateAccount()
	must(t, err)
	device, err := nkeys.CreateUser()
	must(t, err)
	public, err := device.PublicKey()
	must(t, err)
	for _, tt := range []struct {
		site     bool
		admitted time.Duration
		min, max time.Duration
	}{
		{false, 0, 0, 0},
		{false, time.Minute, time.Minute, time.Minute},
		{true, 0, siteLasts * 3 / 4, siteLasts * 5 / 4},
		{true, time.Minute, time.Minute, time.Minute},
	} {
		c := &callout{issuer: issuer, admit: func(Caller) (time.Duration, error) { return tt.admitted, nil }}
		_, user := seedOf(t, nkeys.CreateUser)
		request := jwt.NewAuthorizationRequestClaims(user)
		request.UserNkey, request.ClientInformation.Nonce = user, "nonce"
		signature, err := device.Sign([]byte("nonce"))
		must(t, err)
		request.ConnectOptions = jwt.ConnectOptions{Nkey: public, SignedNonce: base64.RawURLEncoding.EncodeToString(signature), Token: Caller{Device: "d", Key: public}.token()}
		before := time.Now()
		text, err := c.user(request, tt.site)
		must(t, err)
		claims, err := jwt.DecodeUserClaims(text)
		must(t, err)
		lasts := time.Unix(claims.Expires, 0).Sub(before)
		if tt.max == 0 {
			if claims.Expires != 0 {
				t.Errorf("%+v: it is let in for %s, want without end", tt, lasts)
			}
		} else if lasts < tt.min-2*time.Second || lasts > tt.max+2*time.Second {
			t.Errorf("%+v: it is let in for %s", tt, lasts)
		}
		for _, subject := range claims.Pub.Allow {
			if strings.HasPrefix(subject, "fleet.site.*.") != tt.site {
				t.Errorf("%+v: it may publish %s", tt, subject)
			}
		}
	}
}
