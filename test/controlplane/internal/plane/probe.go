package plane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/nationtech/fleet/test/controlplane/internal/pki"
)

// prober asks health endpoints.
type prober struct{ client *http.Client }

func newProber(l Layout, tlsToo bool) (prober, error) {
	// Connections are not kept: an idle one would hold up a graceful stop.
	transport := &http.Transport{DisableKeepAlives: true}
	if tlsToo {
		ca, err := os.ReadFile(l.PKI().Path(pki.CA))
		if err != nil {
			return prober{}, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return prober{client: &http.Client{Transport: transport, Timeout: 2 * time.Second}}, nil
}

// get returns a probe that wants a 200 from url.
func (p prober) get(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", url, answer.Status, bytes.TrimSpace(body))
		}
		return nil
	}
}
