package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// Exec runs a command in the container; an error tells what it complained of.
type Exec func(ctx context.Context, command []string) error

// looker takes single looks at one container.
type looker struct {
	at   reconcile.Address
	find func(context.Context) (reconcile.Address, error)
	exec Exec
}

// address is where a port is now.
func (l looker) address(ctx context.Context, port int32) (string, error) {
	if l.find != nil {
		at, err := l.find(ctx)
		if err != nil {
			return "", err
		}
		return at.Of(port)
	}
	return l.at.Of(port)
}

func (l looker) look(ctx context.Context, p contracts.Probe) error {
	timeout := time.Duration(p.Timeout) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := l.try(ctx, p)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

func (l looker) try(ctx context.Context, p contracts.Probe) error {
	switch {
	case p.HTTP != nil:
		return l.http(ctx, *p.HTTP)
	case p.TCP != nil:
		return l.tcp(ctx, p.TCP.Port, min(longSilence, time.Duration(p.Timeout)*time.Second*3/4))
	}
	return l.exec(ctx, p.Exec)
}

// longSilence bounds how long a connection to a mapped port has to stay open. Rootless
// podman accepts it whoever listens, and closes it when nobody does: after 200 to 300 ms
// with podman 4.3.
const longSilence = 2 * time.Second

func (l looker) tcp(ctx context.Context, port int32, silence time.Duration) error {
	address, err := l.address(ctx, port)
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return bare(err)
	}
	defer conn.Close()
	if l.at.Host != "" || l.find != nil {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("connect to port %d: nobody listens", port)
	}
	return nil
}

// maxBody bounds what is read of an answer.
const maxBody = 10 << 10

func (l looker) http(ctx context.Context, p contracts.HTTPProbe) error {
	scheme := "http"
	if p.HTTPS {
		scheme = "https"
	}
	path := p.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	address, err := l.address(ctx, p.Port)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "fleet-agent")
	for _, h := range p.Headers {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// The transport goes on dialling after the request's end, for minutes when a
			// pod's network is gone and nothing answers: it ends with the probe.
			DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
			// As in Kubernetes: the answer counts, not who signs for it.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: sameHost,
	}
	resp, err := client.Do(req)
	if err != nil {
		return bare(err)
	}
	defer resp.Body.Close()
	// What is left unread only costs the connection, which is closed anyway.
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return nil
}

// sameHost follows redirects within the container only; one that leads elsewhere
// is an answer, and a good one, as in Kubernetes.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 || req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	return nil
}

// bare leaves out addresses and ports, which change from try to try and would
// make a new report of each.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("connect to %s: %w", op.Addr, op.Err)
	}
	return err
}
