package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Authorities returns the certificates, as PEM, that a server's is checked against;
// nothing is the system's. It is asked for each connection, so that what is trusted may
// change.
type Authorities func() ([]byte, error)

// AuthoritiesOf reads them from a file; none is the system's.
func AuthoritiesOf(file string) Authorities {
	if file == "" {
		return func() ([]byte, error) { return nil, nil }
	}
	return func() ([]byte, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the certificates that the server's is checked against: %w", err)
		}
		if _, err := poolOf(text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return text, nil
	}
}

// secure has a connection be made with TLS 1.3 and nothing else, but in this process,
// and to a server on this machine that is not asked for TLS.
func secure(o Options) (nats.Option, error) {
	authorities := o.Authorities
	if authorities == nil && o.CAFile != "" {
		authorities = AuthoritiesOf(o.CAFile)
	}
	none := func(*nats.Options) error { return nil }
	if o.InProcess != nil {
		return none, nil
	}
	if o.Unverified {
		clear, err := staysHere(o.URL)
		return func(options *nats.Options) error {
			// Without Secure it is made use of when the server asks for it.
			options.Secure, options.TLSConfig = !clear, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
			return nil
		}, err
	}
	if authorities == nil {
		clear, err := staysHere(o.URL)
		if clear || err != nil {
			return none, err
		}
		authorities = AuthoritiesOf("")
	}
	// What can't work now is said at once.
	if text, err := authorities(); err != nil {
		return nil, err
	} else if _, err := poolOf(text); err != nil {
		return nil, err
	}
	return func(options *nats.Options) error {
		options.Secure, options.TLSConfig = true, &tls.Config{MinVersion: tls.VersionTLS13}
		options.RootCAsCB = func() (*x509.CertPool, error) {
			text, err := authorities()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", nats.ErrTLS, err)
			}
			return poolOf(text)
		}
		return nil
	}, nil
}

// poolOf is nil, which is the system's, for nothing.
func poolOf(text []byte) (*x509.CertPool, error) {
	if len(text) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("it holds no certificate as PEM")
	}
	return pool, nil
}

// staysHere reports whether what is sent to the servers does not leave this machine and
// was not asked to be encrypted.
func staysHere(urls string) (bool, error) {
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			return false, fmt.Errorf("the server's URL: %w", err)
		}
		ip := net.ParseIP(u.Hostname())
		if u.Scheme == "tls" || u.Scheme == "wss" || u.Hostname() != "localhost" && !ip.IsLoopback() {
			return false, nil
		}
	}
	return true, nil
}

// Explain says what to do about an error of a connection, where that is known.
func Explain(err error) error {
	advice := advise(err, time.Now())
	if advice == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", advice, err)
}

func advise(err error, now time.Time) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		record    tls.RecordHeaderError
	)
	clock := now.UTC().Format(time.RFC3339)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
		return fmt.Sprintf("the certificate of %s holds from %s on, and the clock of this machine says %s: set the clock, and see that it is kept by NTP",
			subject(invalid.Cert), invalid.Cert.NotBefore.UTC().Format(time.RFC3339), clock)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s has held until %s, and the clock of this machine says %s: if the clock is right, have the server's certificate renewed",
			subject(invalid.Cert), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), clock)
	case errors.As(err, &authority):
		return fmt.Sprintf("the server's certificate is signed by %s, which is not trusted here: this is not the server that it was, or something on the way breaks TLS open, or the certificates that are trusted are out of date",
			issuer(authority.Cert))
	case errors.As(err, &name):
		return fmt.Sprintf("the server's certificate is not for %s but for %s: take one of these for the URL, or have the name put into the certificate",
			name.Host, strings.Join(names(name.Certificate), ", "))
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server speaks without TLS, and this side does not: have the server be given a certificate, and see that the URL is the right server's"
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "-ERR ", errors.Is(err, nats.ErrTLS) && errors.Is(err, io.EOF):
		return "the server has ended the connection before TLS stood: it turns away who connects for a moment while too many do at once, and comes round within minutes; if it does not, see in its log why"
	case errors.As(err, &record):
		return "what answers does not speak TLS: see that scheme and port of the URL are the right ones"
	// These have no type of their own.
	case err != nil && (strings.Contains(err.Error(), "tls: protocol version not supported") || strings.Contains(err.Error(), "tls: server selected unsupported protocol version")):
		return "the server does not speak TLS 1.3, and this side nothing older: have the server updated, or its min_version and cipher suites looked at"
	}
	return ""
}

func subject(c *x509.Certificate) string {
	if c.IsCA {
		return fmt.Sprintf("the authority %q", c.Subject.CommonName)
	}
	return "the server"
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return "somebody"
	}
	return fmt.Sprintf("%q", c.Issuer.String())
}

func names(c *x509.Certificate) []string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all[:len(all):len(all)], ip.String())
	}
	if len(all) == 0 {
		return []string{"nothing"}
	}
	return all
}
