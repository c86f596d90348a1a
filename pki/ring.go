package pki

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"time"
)

// Lifetimes say how long what holds.
type Lifetimes struct {
	// Authority and Server are how long their certificates hold. Each is made anew at two
	// thirds of that.
	Authority, Server time.Duration
	// Overlap is how long a new authority is trusted before it signs.
	Overlap time.Duration
	// Backdate is by how much a certificate holds earlier than it was made, for machines
	// whose clock is behind.
	Backdate time.Duration
}

// Usual are the lifetimes of a fleet. A server's certificate holds for a year because
// devices have to connect anew when NATS takes a new one.
var Usual = Lifetimes{Authority: 10 * 365 * day, Server: 365 * day, Overlap: 30 * day, Backdate: time.Hour}

const day = 24 * time.Hour

// Ring is the authorities of a fleet. One signs. At two thirds of its life a next one
// comes, which is trusted and does not sign; after the overlap it takes over. What
// servers present holds also for who trusts only the one before, until that expires:
// the one before has signed the next one.
type Ring struct {
	Current *Authority
	// Next is nil but for the time of the overlap.
	Next *Authority
	// Trusted are the certificates of authorities that servers are checked against.
	Trusted []*x509.Certificate
	// Cross are the certificates that lead from the one that signs to those before it.
	Cross []*x509.Certificate
}

// Advance returns the ring as it is to be at a moment, and what has changed in it, a
// line each. An empty ring gets its first authority.
func (r Ring) Advance(now time.Time, l Lifetimes) (Ring, []string, error) {
	var changes []string
	r.Trusted, r.Cross = valid(r.Trusted, now), valid(r.Cross, now)
	if r.Next != nil && !now.Before(r.takesOver(l)) {
		changes = append(changes, fmt.Sprintf("authority %s signs instead of %s, which is trusted until %s", named(r.Next), named(r.Current), r.Current.Certificate.NotAfter.UTC().Format(time.RFC3339)))
		r.Current, r.Next = r.Next, nil
	}
	if r.Current == nil || !now.Before(r.Current.Certificate.NotAfter) {
		// Nobody trusts anything else any longer.
		first, err := NewAuthority(now.Add(-l.Backdate), now.Add(l.Authority))
		if err != nil {
			return r, nil, err
		}
		change := fmt.Sprintf("authority %s made", named(first))
		if r.Current != nil {
			change += fmt.Sprintf(": %s has expired, devices have to join anew", named(r.Current))
		}
		return Ring{Current: first, Trusted: []*x509.Certificate{first.Certificate}}, append(changes, change), nil
	}
	if r.Next == nil && !now.Before(Renewal(r.Current.Certificate)) {
		next, err := NewAuthority(now.Add(-l.Backdate), now.Add(l.Authority))
		if err != nil {
			return r, nil, err
		}
		cross, err := next.CrossSign(r.Current)
		if err != nil {
			return r, nil, err
		}
		r.Next, r.Trusted, r.Cross = next, append(r.Trusted, next.Certificate), append([]*x509.Certificate{cross}, r.Cross...)
		changes = append(changes, fmt.Sprintf("authority %s made and trusted beside %s; it signs from %s on", named(next), named(r.Current), r.takesOver(l).UTC().Format(time.RFC3339)))
	}
	return r, changes, nil
}

// takesOver is when the next authority begins to sign: after the overlap, or before the
// current one ends.
func (r Ring) takesOver(l Lifetimes) time.Time {
	made := r.Next.Certificate.NotBefore.Add(l.Backdate)
	return earlier(made.Add(l.Overlap), made.Add(r.Current.Certificate.NotAfter.Sub(made)/2))
}

// Chain is what follows a server's certificate that the ring has signed.
func (r Ring) Chain() []*x509.Certificate {
	if r.Next != nil {
		// The newest is not of the one that signs.
		return r.Cross[1:]
	}
	return r.Cross
}

// Issue makes a server's certificate with its chain, and the key, as PEM.
func (r Ring) Issue(names []string, now time.Time, l Lifetimes) (certificates, key []byte, err error) {
	c, signer, err := r.Current.Issue(names, now.Add(-l.Backdate), now.Add(l.Server))
	if err != nil {
		return nil, nil, err
	}
	if key, err = EncodeKey(signer); err != nil {
		return nil, nil, err
	}
	return EncodeCertificates(append([]*x509.Certificate{c}, r.Chain()...)...), key, nil
}

// Stale says why a server's certificate is to be made anew; empty is that it is not.
func (r Ring) Stale(certificates []byte, names []string, now time.Time) string {
	all, err := ParseCertificates(certificates)
	if err != nil {
		return "it can't be read"
	}
	c := all[0]
	switch {
	case c.CheckSignatureFrom(r.Current.Certificate) != nil:
		return "another authority signs now"
	case !now.Before(c.NotAfter):
		return "it has expired"
	case !now.Before(Renewal(c)):
		return "two thirds of its life are over"
	case !slices.Equal(Names(c), sorted(names)):
		return "its names have changed"
	}
	return ""
}

// Wake is when the ring or a server's certificate of it is to be looked at again.
func (r Ring) Wake(l Lifetimes, servers ...*x509.Certificate) time.Time {
	wake := Renewal(r.Current.Certificate)
	if r.Next != nil {
		wake = r.takesOver(l)
	}
	for _, c := range servers {
		wake = earlier(wake, Renewal(c))
	}
	for _, c := range r.Trusted {
		wake = earlier(wake, c.NotAfter)
	}
	return wake
}

// Renewal is when two thirds of a certificate's life are over.
func Renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

// Names are the DNS names and IP addresses of a certificate, sorted.
func Names(c *x509.Certificate) []string {
	var out []string
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return sorted(append(out, c.DNSNames...))
}

func sorted(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			n = ip.String()
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func valid(all []*x509.Certificate, now time.Time) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range all {
		if now.Before(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}

func named(a *Authority) string { return fmt.Sprintf("%q", a.Certificate.Subject.CommonName) }
