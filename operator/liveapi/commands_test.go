package liveapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
)

// obedient is a device whose containers are named after what they do.
type obedient struct {
	// more lets a followed log go on; one line for each value.
	more *broadcast
	// open counts what is carried out at the moment.
	open atomic.Int32
	// sizes of the terminal, as they come.
	sizes chan contracts.TerminalSize
}

// broadcast hands each line to whoever waits for it.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{}
	line string
}

func (b *broadcast) wait() (<-chan struct{}, *string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next, &b.line
}

func (b *broadcast) send(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = line
	close(b.next)
	b.next = make(chan struct{})
}

func (o *obedient) Ping() (contracts.Pong, error) {
	return contracts.Pong{AgentVersion: "v1", UptimeSeconds: 7, Time: time.Unix(1, 0).UTC()}, nil
}

func (o *obedient) Prepare(_ context.Context, r contracts.CommandRequest) (bus.Task, error) {
	var do bus.Task
	switch {
	case r.Logs != nil:
		if code, ok := strings.CutPrefix(r.Logs.Container, "err-"); ok {
			for _, c := range []contracts.CommandCode{contracts.CodeRefused, contracts.CodeNotFound, contracts.CodeUnsupported, contracts.CodeBusy, contracts.CodeInternal, contracts.CodeTimeout} {
				if strings.EqualFold(string(c), code) {
					return nil, contracts.CommandErrorf(c, "the device says %s", code)
				}
			}
		}
		do = o.log(*r.Logs)
	case r.Exec != nil:
		do = o.exec(*r.Exec)
	case r.Restart != nil:
		do = func(context.Context, bus.Streams) (contracts.CommandEnd, error) {
			return contracts.CommandEnd{Restarted: []string{"app", r.Restart.Container}}, nil
		}
	}
	return func(ctx context.Context, s bus.Streams) (contracts.CommandEnd, error) {
		o.open.Add(1)
		defer o.open.Add(-1)
		return do(ctx, s)
	}, nil
}

const gibibyte = 1 << 30

func (o *obedient) log(r contracts.LogsRequest) bus.Task {
	return func(ctx context.Context, s bus.Streams) (end contracts.CommandEnd, err error) {
		switch r.Container {
		case "app":
			_, err = fmt.Fprintf(s.Stdout, "one\ntwo\n%v %v\n", r.Follow, *r.Tail)
		case "binary":
			_, err = s.Stdout.Write([]byte{0, 255, '\n', 27, '[', 0xc3, 0x28})
		case "line":
			chunk := bytes.Repeat([]byte("x"), contracts.MaxChunk)
			for n := 0; n < gibibyte && err == nil; n += len(chunk) {
				_, err = s.Stdout.Write(chunk)
			}
		case "dies":
			_, _ = io.WriteString(s.Stdout, "the last words\n")
			return end, contracts.CommandErrorf(contracts.CodeInternal, "the disk is\nbroken")
		case "goes-on":
			for err == nil {
				next, line := o.more.wait()
				if _, err = io.WriteString(s.Stdout, "begun\n"); err != nil {
					break
				}
				select {
				case <-next:
					_, err = io.WriteString(s.Stdout, *line+"\n")
				case <-ctx.Done():
					return end, context.Cause(ctx)
				}
			}
		}
		return end, err
	}
}

func (o *obedient) exec(r contracts.ExecRequest) bus.Task {
	return func(ctx context.Context, s bus.Streams) (end contracts.CommandEnd, err error) {
		code := int32(0)
		switch r.Command[0] {
		case "cat":
			_, err = io.Copy(s.Stdout, s.Stdin)
		case "false":
			_, _ = io.WriteString(s.Stdout, "out")
			_, err = io.WriteString(s.Stderr, "err")
			code = 3
		case "sizes":
			for size := range s.Resize {
				o.sizes <- size
				if size.Width == 132 {
					break
				}
			}
		case "sleep":
			<-ctx.Done()
			return end, context.Cause(ctx)
		}
		return contracts.CommandEnd{ExitCode: &code}, err
	}
}

// commanded is a live API with devices that obey.
type commanded struct {
	*served
	url     string
	devices []*obedient
}

// serveDevices serves devices till-0 and so on, each with one placement of web.
// There are more in the store that are not there: gone, and junk, which answers
// everything with nonsense.
func serveDevices(t *testing.T, count int) *commanded {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	must(t, err)
	server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	c := &commanded{url: server.ClientURL()}
	store := NewStore(time.Now())
	add := func(id contracts.DeviceID) {
		store.Device(id, member("shops", string(id), nil))
		store.Placement(id, "web", running("web-1"))
	}
	for n := range count {
		id := contracts.DeviceID(fmt.Sprintf("till-%d", n))
		add(id)
		device := &obedient{more: &broadcast{next: make(chan struct{})}, sizes: make(chan contracts.TerminalSize, 16)}
		c.devices = append(c.devices, device)
		c.obey(t, id, device)
	}
	add("gone")
	add("junk")
	junk := c.connect(t)
	_, err = junk.Subscribe(contracts.CommandSubject("junk", "*"), func(m *nats.Msg) { _ = m.Respond([]byte("<html>")) })
	must(t, err)
	must(t, junk.Flush())
	c.served = serveCommands(t, store, bus.NewCommander(c.connect(t), slog.New(slog.DiscardHandler)))
	return c
}

func (c *commanded) connect(t *testing.T) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(c.url)
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// obey has a device listen to commands until the test ends or the returned function
// is called.
func (c *commanded) obey(t *testing.T, id contracts.DeviceID, h bus.CommandHandler) *nats.Conn {
	t.Helper()
	nc := c.connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- bus.ServeCommands(ctx, nc, id, h, bus.CommandOptions{Logger: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() { cancel(); <-done })
	for nc.NumSubscriptions() == 0 {
		runtime.Gosched()
	}
	must(t, nc.Flush())
	return nc
}

func (c *commanded) request(verb, path string, query url.Values) *restclient.Request {
	r := c.rest().Verb(verb).RequestURI("/apis/live.fleet.nationtech.io/v1alpha1/namespaces/shops/" + path).MaxRetries(0)
	for name, values := range query {
		for _, v := range values {
			r.Param(name, v)
		}
	}
	return r
}

func TestCommandsAreAnswered(t *testing.T) {
	c := serveDevices(t, 1)
	raw, err := c.request("GET", "devices/till-0/ping", nil).Do(t.Context()).Raw()
	must(t, err)
	var ping live.DevicePing
	must(t, json.Unmarshal(raw, &ping))
	if ping.Kind != "DevicePing" || ping.AgentVersion != "v1" || ping.UptimeSeconds != 7 || ping.RoundTrip.Duration <= 0 || ping.DeviceTime.Unix() != 1 {
		t.Errorf("the ping is %s", raw)
	}
	raw, err = c.request("POST", "placements/till-0.web/restart", url.Values{"container": {"side"}}).Do(t.Context()).Raw()
	must(t, err)
	var restart live.PlacementRestart
	must(t, json.Unmarshal(raw, &restart))
	if strings.Join(restart.Containers, " ") != "app side" {
		t.Errorf("the restart is %s", raw)
	}
	raw, err = c.request("GET", "placements/till-0.web/log", url.Values{"container": {"app"}, "tailLines": {"7"}, "follow": {"true"}, "timeout": {"30s"}}).Do(t.Context()).Raw()
	must(t, err)
	if string(raw) != "one\ntwo\ntrue 7\n" {
		t.Errorf("the log is %q", raw)
	}
	raw, err = c.request("GET", "placements/till-0.web/log", url.Values{"container": {"binary"}}).Do(t.Context()).Raw()
	must(t, err)
	if !bytes.Equal(raw, []byte{0, 255, '\n', 27, '[', 0xc3, 0x28}) {
		t.Errorf("the binary log is %q", raw)
	}
}

func TestWhatIsWrongWithACommandIsSaid(t *testing.T) {
	c := serveDevices(t, 1)
	for name, tt := range map[string]struct {
		verb, path string
		query      url.Values
		code       int32
		cause      contracts.CommandCode
		says       string
	}{
		"an unknown device":                 {path: "devices/nobody/ping", code: 404, says: `heartbeats.live.fleet.nationtech.io "nobody" not found`},
		"an unknown placement":              {path: "placements/till-0.cms/log", code: 404, says: `"till-0.cms" not found`},
		"a device that is offline":          {path: "devices/gone/ping", code: 503, cause: contracts.CodeOffline, says: "device gone is offline"},
		"a log of one that is offline":      {path: "placements/gone.web/log", code: 503, cause: contracts.CodeOffline, says: "device gone is offline"},
		"a restart of one that is offline":  {verb: "POST", path: "placements/gone.web/restart", code: 503, cause: contracts.CodeOffline, says: "device gone is offline"},
		"a reply that is not JSON":          {path: "devices/junk/ping", code: 500, cause: contracts.CodeInternal, says: "the answer of device junk is refused"},
		"what the device refuses":           {path: "placements/till-0.web/log", query: url.Values{"container": {"err-refused"}}, code: 403, cause: contracts.CodeRefused, says: "the device says refused"},
		"what it does not have":             {path: "placements/till-0.web/log", query: url.Values{"container": {"err-notfound"}}, code: 404, cause: contracts.CodeNotFound, says: "the device says notfound"},
		"what it can't":                     {path: "placements/till-0.web/log", query: url.Values{"container": {"err-unsupported"}}, code: 501, cause: contracts.CodeUnsupported, says: "the device says unsupported"},
		"a device with too much to do":      {path: "placements/till-0.web/log", query: url.Values{"container": {"err-busy"}}, code: 429, cause: contracts.CodeBusy, says: "the device says busy"},
		"a device that takes too long":      {path: "placements/till-0.web/log", query: url.Values{"container": {"err-timeout"}}, code: 504, cause: contracts.CodeTimeout, says: "the device says timeout"},
		"a container that is no name":       {path: "placements/till-0.web/log", query: url.Values{"container": {"../x"}}, code: 400, cause: contracts.CodeInvalid, says: "not a DNS label"},
		"more of the end than there may be": {path: "placements/till-0.web/log", query: url.Values{"tailLines": {"-1"}}, code: 400, cause: contracts.CodeInvalid, says: "tail -1"},
		"a parameter that there is not":     {path: "placements/till-0.web/log", query: url.Values{"tail": {"1"}}, code: 400, says: `parameter "tail" is not known`},
		"a parameter twice":                 {path: "placements/till-0.web/log", query: url.Values{"container": {"a", "b"}}, code: 400, says: `"container" is given 2 times`},
		"a number that is none":             {path: "placements/till-0.web/log", query: url.Values{"sinceSeconds": {"long"}}, code: 400, says: `"sinceSeconds"`},
		"a time that is none":               {path: "placements/till-0.web/log", query: url.Values{"sinceTime": {"yesterday"}}, code: 400, says: `"sinceTime"`},
		"a restart by reading":              {path: "placements/till-0.web/restart", code: 405, says: "does not allow this method"},
		"exec without a WebSocket":          {path: "placements/till-0.web/exec", query: url.Values{"command": {"cat"}}, code: 400, says: "WebSocket"},
	} {
		t.Run(name, func(t *testing.T) {
			verb := tt.verb
			if verb == "" {
				verb = "GET"
			}
			raw, err := c.request(verb, tt.path, tt.query).Do(t.Context()).Raw()
			var got metav1.Status
			if err == nil || json.Unmarshal(raw, &got) != nil {
				t.Fatalf("it answers %q, %v", raw, err)
			}
			if got.Code != tt.code || !strings.Contains(got.Message, tt.says) {
				t.Errorf("it answers %d %q, want %d %q", got.Code, got.Message, tt.code, tt.says)
			}
			if tt.cause != "" && !apierrors.HasStatusCause(&apierrors.StatusError{ErrStatus: got}, metav1.CauseType(tt.cause)) {
				t.Errorf("its cause is not %s: %+v", tt.cause, got.Details)
			}
		})
	}
	t.Run("everything before the view is complete", func(t *testing.T) {
		c.ready.Store(false)
		defer c.ready.Store(true)
		for _, path := range []string{"devices/till-0/ping", "placements/till-0.web/log"} {
			if err := c.request("GET", path, nil).Do(t.Context()).Error(); !apierrors.IsServiceUnavailable(err) {
				t.Errorf("%s answers %v", path, err)
			}
		}
	})
}

// get reads a log as an HTTP client does that may know trailers.
func (c *commanded) get(t *testing.T, query string, trailers bool) (*http.Response, []byte, error) {
	t.Helper()
	client, err := restclient.HTTPClientFor(c.config)
	must(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.config.Host+"/apis/live.fleet.nationtech.io/v1alpha1/namespaces/shops/placements/till-0.web/log?"+query, nil)
	must(t, err)
	if trailers {
		request.Header.Set("TE", "trailers")
	}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

func TestHalfALogIsNoWholeOne(t *testing.T) {
	c := serveDevices(t, 1)
	response, body, err := c.get(t, "container=dies", true)
	var status metav1.Status
	if err != nil || string(body) != "the last words\n" || json.Unmarshal([]byte(response.Trailer.Get(live.StatusTrailer)), &status) != nil {
		t.Fatalf("with trailers: %q, %v, %v", body, response.Trailer, err)
	}
	if status.Message != "the disk is\nbroken" || len(status.Details.Causes) != 1 || status.Details.Causes[0].Type != metav1.CauseType(contracts.CodeInternal) {
		t.Errorf("it says %+v", status)
	}
	if response, _, err := c.get(t, "container=app&tailLines=1", true); err != nil || len(response.Trailer) != 0 {
		t.Errorf("a whole log has a trailer %v (%v)", response.Trailer, err)
	}
	if _, body, err := c.get(t, "container=dies", false); err == nil {
		t.Errorf("without trailers half a log ends as if it were whole: %q", body)
	}
}

// A line of 1 GiB goes through, and nobody keeps more of it than the window.
func TestAVeryLongLineTakesLittleMemory(t *testing.T) {
	c := serveDevices(t, 1)
	base := heapInUse()
	stream, err := c.request("GET", "placements/till-0.web/log", url.Values{"container": {"line"}}).Stream(t.Context())
	must(t, err)
	defer stream.Close()
	var read, peak uint64
	buffer := make([]byte, 1<<20)
	for begun, looked := time.Now(), time.Now(); ; {
		n, err := stream.Read(buffer)
		read += uint64(n)
		if err == io.EOF {
			t.Logf("%d MiB in %v, with at most %d KiB more memory", read>>20, time.Since(begun).Round(time.Millisecond), peak>>10)
			break
		}
		must(t, err)
		if time.Since(looked) > 200*time.Millisecond {
			looked = time.Now()
			if now := heapInUse(); now > base {
				peak = max(peak, now-base)
			}
		}
	}
	if read != gibibyte || peak > 32<<20 {
		t.Errorf("%d bytes came, with %d KiB more memory", read, peak>>10)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// terminal is the input and output of an exec.
func (c *commanded) exec(ctx context.Context, o remotecommand.StreamOptions, query url.Values) error {
	u, err := url.Parse(c.config.Host + "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/shops/placements/till-0.web/exec?" + query.Encode())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewWebSocketExecutor(c.config, http.MethodGet, u.String())
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, o)
}

type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	defer func() { *s = (*s)[1:] }()
	return &(*s)[0]
}

func TestExec(t *testing.T) {
	c := serveDevices(t, 1)
	input := strings.Repeat("0123456789abcdef", 64<<10)
	var out, errOut bytes.Buffer
	must(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &out, Stderr: &errOut}, url.Values{"command": {"cat"}, "stdin": {"true"}}))
	if out.String() != input || errOut.Len() != 0 {
		t.Errorf("%d bytes of %d came back, and %q", out.Len(), len(input), &errOut)
	}
	out.Reset()
	err := c.exec(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}, url.Values{"command": {"false"}})
	if code, ok := errors.AsType[exec.CodeExitError](err); !ok || code.Code != 3 || out.String() != "out" || errOut.String() != "err" {
		t.Errorf("it ends with %v and says %q and %q", err, &out, &errOut)
	}
	must(t, c.exec(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard, Tty: true, TerminalSizeQueue: &sizes{{Width: 80, Height: 24}, {}, {Width: 132, Height: 50}}}, url.Values{"command": {"sizes"}, "tty": {"true"}}))
	var last contracts.TerminalSize
	for len(c.devices[0].sizes) > 0 {
		last = <-c.devices[0].sizes
	}
	if last != (contracts.TerminalSize{Width: 132, Height: 50}) {
		t.Errorf("the last size is %v", last)
	}
	for says, query := range map[string]url.Values{
		"command is empty":              {},
		`parameter "user" is not known`: {"command": {"cat"}, "user": {"root"}},
		"width and height":              {"command": {"cat"}, "tty": {"true"}, "width": {"80"}, "height": {"70000"}},
		"size is set without tty":       {"command": {"cat"}, "width": {"80"}, "height": {"24"}},
	} {
		if err := c.exec(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard}, query); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it answers %v, want %q", err, says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.exec(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}, url.Values{"command": {"sleep"}})
	}()
	c.eventually(func() string { return differ(c.devices[0].open.Load(), 1) })
	cancel()
	if err := <-ended; err == nil {
		t.Error("a command whose client has gone ended well")
	}
	c.eventually(func() string { return differ(c.devices[0].open.Load(), 0) })
}

func differ(got, want int32) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%d are carried out, want %d", got, want)
}

func TestAThousandFollowers(t *testing.T) {
	const count, each = 40, 25
	c := serveDevices(t, count)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// What the operator's connection keeps after the first request is not of a follower.
	must(t, c.request("GET", "devices/till-0/ping", nil).Do(ctx).Error())
	// The server answers before it watches its certificate, with two goroutines.
	c.eventually(func() string {
		var stacks strings.Builder
		must(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
		const watch = "created by k8s.io/apiserver/pkg/server/dynamiccertificates.(*DynamicServingCertificateController).Run"
		if n := strings.Count(stacks.String(), watch); n < 2 {
			return fmt.Sprintf("%d of 2 goroutines watch the server's certificate", n)
		}
		return ""
	})
	before := goleak.IgnoreCurrent()
	memory := heapInUse()
	var begun, ended sync.WaitGroup
	lines := make(chan string, count*each)
	for n := range count * each {
		begun.Add(1)
		ended.Go(func() {
			stream, err := c.request("GET", fmt.Sprintf("placements/till-%d.web/log", n/each), url.Values{"container": {"goes-on"}, "follow": {"true"}}).Stream(ctx)
			if err != nil {
				begun.Done()
				t.Error(err)
				return
			}
			defer stream.Close()
			scanner := bufio.NewScanner(stream)
			first := sync.OnceFunc(begun.Done)
			defer first()
			for scanner.Scan() {
				if scanner.Text() == "begun" {
					first()
					continue
				}
				lines <- scanner.Text()
			}
		})
	}
	begun.Wait()
	if t.Failed() {
		return
	}
	used := heapInUse() - memory
	sent := time.Now()
	for _, d := range c.devices {
		d.more.send("now")
	}
	for range count * each {
		select {
		case line := <-lines:
			if line != "now" {
				t.Fatalf("a line is %q", line)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not everybody has the line after 20 s")
		}
	}
	t.Logf("%d followers, clients and devices included, take %d KiB each; all have a line after %v", count*each, used/1024/(count*each), time.Since(sent).Round(time.Millisecond))
	cancel()
	ended.Wait()
	c.eventually(func() string {
		for _, d := range c.devices {
			if s := differ(d.open.Load(), 0); s != "" {
				return s
			}
		}
		return ""
	})
	client, err := restclient.HTTPClientFor(c.config)
	must(t, err)
	utilnet.CloseIdleConnectionsFor(client.Transport)
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

func TestAServerThatStopsEndsItsStreams(t *testing.T) {
	c := serveDevices(t, 1)
	stream, err := c.request("GET", "placements/till-0.web/log", url.Values{"container": {"goes-on"}, "follow": {"true"}}).Stream(t.Context())
	must(t, err)
	defer stream.Close()
	_, err = bufio.NewReader(stream).ReadString('\n')
	must(t, err)
	begun := time.Now()
	c.stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	c.eventually(func() string { return differ(c.devices[0].open.Load(), 0) })
}

func TestADeviceThatDiesInTheMiddle(t *testing.T) {
	c := serveDevices(t, 0)
	c.store.Device("till-0", member("shops", "till-0", nil))
	c.store.Placement("till-0", "web", running("web-1"))
	nc := c.obey(t, "till-0", &obedient{more: &broadcast{next: make(chan struct{})}})
	go func() {
		c.eventually(func() string {
			if nc.OutMsgs < 3 {
				return "the log has not begun"
			}
			return ""
		})
		nc.Close()
	}()
	begun := time.Now()
	response, body, err := c.get(t, "container=goes-on&follow=true", true)
	if err != nil || string(body) != "begun\n" || !strings.Contains(response.Trailer.Get(live.StatusTrailer), "gone silent in the middle") {
		t.Errorf("after %v: %q, %v, %v", time.Since(begun), body, response.Trailer, err)
	}
}
