package podman

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
)

// apiPrefix is the version of libpod's REST API that this package speaks; podman
// serves it since 4.0. https://docs.podman.io/en/latest/_static/api.html
const apiPrefix = "/v4.0.0/libpod"

// compatPrefix is the Docker-compatible half of the API.
const compatPrefix = "/v1.40"

// client speaks HTTP over podman's socket.
type client struct {
	path string
	http *http.Client
}

func newClient(socket string) (*client, error) {
	path, ok := strings.CutPrefix(socket, "unix://")
	if !ok {
		return nil, fmt.Errorf("podman socket %q does not begin with unix://", socket)
	}
	var dialer net.Dialer
	return &client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		// Podman's service goes away when nobody is connected, if systemd starts it.
		MaxIdleConns: 2, MaxIdleConnsPerHost: 2,
	}}}, nil
}

// apiError is what podman answers when it refuses.
type apiError struct {
	Message string `json:"message"`
	Cause   string `json:"cause"`
	status  int
}

func (e *apiError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("podman answers %d", e.status)
	}
	return e.Message
}

func isStatus(err error, status int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.status == status
}

// isCause reports whether podman gives this as the root of its refusal.
func isCause(err error, cause string) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && strings.Contains(e.Cause, cause)
}

// isUnavailable reports whether podman was not reached, as opposed to refused.
func isUnavailable(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// open sends a request and returns the answer's body, whatever it takes.
func (c *client) open(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	return c.openWith(ctx, method, path, query, nil, in)
}

// openWith does the same with more headers.
func (c *client) openWith(ctx context.Context, method, path string, query url.Values, header http.Header, in any) (io.ReadCloser, error) {
	req, err := newRequest(ctx, method, path, query, in)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := c.http.Do(req)
	if err != nil {
		if opErr, ok := errors.AsType[*net.OpError](err); ok {
			return nil, opErr
		}
		return nil, err
	}
	if err := refusal(resp); err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// raw is a body that is sent as it is.
type raw []byte

func newRequest(ctx context.Context, method, path string, query url.Values, in any) (*http.Request, error) {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case raw:
		body = bytes.NewReader(in)
	default:
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	if !strings.HasPrefix(path, compatPrefix) {
		path = apiPrefix + path
	}
	u := url.URL{Scheme: "http", Host: "podman", Opaque: "//podman" + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, "http://podman/", body)
	if err != nil {
		return nil, err
	}
	req.URL = &u
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// refusal is the error in an answer, if it is one; its body is closed then.
func refusal(resp *http.Response) error {
	if resp.StatusCode < 400 {
		return nil
	}
	defer resp.Body.Close()
	e := &apiError{status: resp.StatusCode}
	// What is not JSON has no message, and the status says what there is to say.
	_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(e)
	return e
}

// duplex is a connection that has become a stream both ways.
type duplex struct {
	*net.UnixConn
	// r has what came with the head of the answer.
	r *bufio.Reader
}

func (d duplex) Read(p []byte) (int, error) { return d.r.Read(p) }

// upgrade sends a request on a connection of its own, and returns that as the stream
// which podman makes of it. It is closed when the context ends.
func (c *client) upgrade(ctx context.Context, path string, in any) (duplex, error) {
	req, err := newRequest(ctx, http.MethodPost, path, nil, in)
	if err != nil {
		return duplex{}, err
	}
	req.URL = &url.URL{Path: strings.TrimPrefix(req.URL.Opaque, "//podman")}
	req.Host = "podman"
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.path)
	if err != nil {
		return duplex{}, err
	}
	d := duplex{UnixConn: conn.(*net.UnixConn), r: bufio.NewReader(conn)}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	fail := func(err error) (duplex, error) {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return duplex{}, err
	}
	if err := req.Write(conn); err != nil {
		return fail(err)
	}
	resp, err := http.ReadResponse(d.r, req)
	if err != nil {
		return fail(err)
	}
	if err := refusal(resp); err != nil {
		return fail(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fail(fmt.Errorf("podman answers %d instead of a stream", resp.StatusCode))
	}
	return d, nil
}

// call sends a request and decodes the answer into out, if there is one to be.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	body, err := c.open(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		// Read to its end, so that the connection can be used again.
		_, err = io.Copy(io.Discard, io.LimitReader(body, 1<<20))
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("decode podman's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// filters is podman's way to write what a list is narrowed to.
func filters(f map[string][]string) string {
	data, err := json.Marshal(f)
	if err != nil {
		panic(err) // a map of strings is always encodable
	}
	return string(data)
}

// onConnect calls f once the request has been sent, which podman's head of the
// answer may be long behind.
func onConnect(ctx context.Context, f func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			f()
		}
	}})
}
