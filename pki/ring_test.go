package pki

import (
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var short = Lifetimes{Authority: 90 * day, Server: 30 * day, Overlap: 10 * day, Backdate: time.Hour}

func advance(t rapid.TB, r Ring, now time.Time) (Ring, []string) {
	t.Helper()
	r, changes, err := r.Advance(now, short)
	if err != nil {
		t.Fatal(err)
	}
	return r, changes
}

func issue(t rapid.TB, r Ring, now time.Time) []byte {
	t.Helper()
	certificates, key, err := r.Issue([]string{"nats", "10.0.0.1"}, now, short)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(certificates, key); err != nil {
		t.Fatal(err)
	}
	return certificates
}

// verify checks a server as a client does that trusts what it is given.
func verify(t rapid.TB, server []byte, trusted []*x509.Certificate, now time.Time) error {
	t.Helper()
	chain, err := ParseCertificates(server)
	if err != nil {
		t.Fatal(err)
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: "nats", CurrentTime: now}
	for _, c := range trusted {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err = chain[0].Verify(o)
	return err
}

func TestAnAuthorityIsFollowedByTheNext(t *testing.T) {
	r, changes := advance(t, Ring{}, start)
	if len(changes) != 1 || r.Next != nil || len(r.Trusted) != 1 {
		t.Fatalf("at first: %v", changes)
	}
	first := r.Current
	if _, changes = advance(t, r, start.Add(59*day)); changes != nil {
		t.Errorf("on day 59: %v", changes)
	}
	r, changes = advance(t, r, start.Add(60*day))
	if len(changes) != 1 || r.Next == nil || len(r.Trusted) != 2 || r.Current != first {
		t.Fatalf("on day 60: %v", changes)
	}
	if err := verify(t, issue(t, r, start.Add(60*day)), []*x509.Certificate{first.Certificate}, start.Add(60*day)); err != nil {
		t.Errorf("the first signs no longer: %v", err)
	}
	next := r.Next
	if _, changes = advance(t, r, start.Add(69*day)); changes != nil {
		t.Errorf("on day 69: %v", changes)
	}
	r, changes = advance(t, r, start.Add(70*day+time.Hour))
	if len(changes) != 1 || r.Next != nil || r.Current != next || len(r.Trusted) != 2 {
		t.Fatalf("on day 70: %v", changes)
	}
	server := issue(t, r, start.Add(71*day))
	for name, trusted := range map[string]*x509.Certificate{"the first": first.Certificate, "the next": next.Certificate} {
		if err := verify(t, server, []*x509.Certificate{trusted}, start.Add(71*day)); err != nil {
			t.Errorf("who trusts %s alone: %v", name, err)
		}
	}
	r, _ = advance(t, r, start.Add(91*day))
	if !slices.Equal(r.Trusted, []*x509.Certificate{next.Certificate}) || r.Cross != nil {
		t.Errorf("on day 91 %d are trusted", len(r.Trusted))
	}
}

func TestAnAuthorityThatNobodyMindedStartsAnew(t *testing.T) {
	r, _ := advance(t, Ring{}, start)
	r, changes := advance(t, r, start.Add(100*day))
	if len(changes) != 1 || !strings.Contains(changes[0], "join anew") || len(r.Trusted) != 1 {
		t.Errorf("%v", changes)
	}
}

func TestTheNextTakesOverThoughTheFirstHasExpired(t *testing.T) {
	r, _ := advance(t, Ring{}, start)
	r, _ = advance(t, r, start.Add(60*day))
	next := r.Next
	r, changes := advance(t, r, start.Add(100*day))
	if r.Current != next || len(changes) != 1 {
		t.Errorf("%v", changes)
	}
}

// TestNoDeviceIsLockedOut has time pass in steps of any length that is short of an
// authority's last third. A device that learned at any moment whom to trust can check
// the server as long as the authority that signed then holds; one that learned of the
// next authority, as long as that one does.
func TestNoDeviceIsLockedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type device struct {
			trusted []*x509.Certificate
			until   time.Time
		}
		var r Ring
		var server []byte
		var devices []device
		now := start
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			r, _ = advance(t, r, now)
			data, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseRing(data)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(r, again) {
				t.Fatal("the ring is another when it is read again")
			}
			if server == nil || r.Stale(server, []string{"10.0.0.1", "nats"}, now) != "" {
				server = issue(t, r, now)
			}
			d := device{r.Trusted, r.Current.Certificate.NotAfter}
			if r.Next != nil {
				d.until = r.Next.Certificate.NotAfter
			}
			devices = append(devices, d)
			for i, d := range devices {
				if err := verify(t, server, d.trusted, now); err != nil && now.Before(d.until) {
					t.Fatalf("device %d, on day %v: %v", i, now.Sub(start)/day, err)
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(1, 9*24).Draw(t, "hours")) * time.Hour)
		}
	})
}

func TestAServersCertificateIsRenewed(t *testing.T) {
	r, _ := advance(t, Ring{}, start)
	server := issue(t, r, start)
	other, _ := advance(t, Ring{}, start)
	for name, tt := range map[string]struct {
		ring  Ring
		cert  []byte
		names []string
		day   int
		want  string
	}{
		"good":             {r, server, []string{"nats", "10.0.0.1"}, 19, ""},
		"names in another": {r, server, []string{"10.0.0.1", "nats", "nats"}, 19, ""},
		"at two thirds":    {r, server, []string{"nats", "10.0.0.1"}, 20, "two thirds of its life are over"},
		"expired":          {r, server, []string{"nats", "10.0.0.1"}, 31, "it has expired"},
		"another name":     {r, server, []string{"nats"}, 1, "its names have changed"},
		"another signs":    {other, server, []string{"nats", "10.0.0.1"}, 1, "another authority signs now"},
		"nothing":          {r, nil, []string{"nats"}, 1, "it can't be read"},
	} {
		if got := tt.ring.Stale(tt.cert, tt.names, start.Add(time.Duration(tt.day)*day)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	chain, err := ParseCertificates(server)
	if err != nil {
		t.Fatal(err)
	}
	if wake := r.Wake(short, chain[0]); !wake.Equal(Renewal(chain[0])) {
		t.Errorf("it is looked at again at %v", wake)
	}
}

func TestARingThatCantBeReadSaysWhy(t *testing.T) {
	r, _ := advance(t, Ring{}, start)
	r, _ = advance(t, r, start.Add(60*day))
	good, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	server := issue(t, r, start)
	for name, tt := range map[string]struct {
		key, want string
		value     []byte
	}{
		"no certificate":        {CertificateKey, "tls.crt and tls.key: no certificate as PEM", nil},
		"a server's":            {CertificateKey, "is not an authority's", server},
		"another's key":         {PrivateKey, "the key is not that of the certificate", good[nextPrivateKey]},
		"no key":                {PrivateKey, "no key as PEM", []byte("x")},
		"a key that is kept":    {TrustedKey, "ca.crt: certificates hold a PRIVATE KEY", good[PrivateKey]},
		"a cross of another":    {crossKey, "cross.crt does not begin with", good[CertificateKey][:0]},
		"a next without a key":  {nextPrivateKey, "next.crt and next.key: no key as PEM", nil},
		"a certificate of junk": {CertificateKey, "certificate 1", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
	} {
		data := map[string][]byte{}
		for k, v := range good {
			data[k] = v
		}
		if data[tt.key] = tt.value; len(tt.value) == 0 && tt.key == crossKey {
			delete(data, crossKey)
		}
		if _, err := ParseRing(data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
