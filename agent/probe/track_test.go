package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
)

// TestTrackCountsAsKubernetesDoes plays looks, a period apart: + succeeds, - fails.
func TestTrackCountsAsKubernetesDoes(t *testing.T) {
	for _, c := range []struct {
		name              string
		success, failure  int32
		looks             string
		succeeded, failed bool
	}{
		{"one success is enough", 1, 3, "+", true, false},
		{"before any look it is neither", 1, 3, "", false, false},
		{"two failures of three", 1, 3, "--", false, false},
		{"three failures in a row", 1, 3, "---", false, true},
		{"a success in between begins anew", 1, 3, "--+--", true, false},
		{"it stays what it was until the threshold", 1, 3, "+--", true, false},
		{"then it fails", 1, 3, "+---", false, true},
		{"and recovers", 1, 3, "+---+", true, false},
		{"two successes in a row are wanted", 2, 3, "+-+", false, false},
		{"and had", 2, 3, "+-++", true, false},
	} {
		k := &track{spec: contracts.Probe{Period: 10, SuccessThreshold: c.success, FailureThreshold: c.failure}}
		now := time.Unix(1000, 0)
		for _, look := range c.looks {
			k.seen(now, look == '+', false)
			now = now.Add(10 * time.Second)
		}
		if k.succeeded != c.succeeded || k.failed != c.failed {
			t.Errorf("%s: succeeded %v, failed %v", c.name, k.succeeded, k.failed)
		}
	}
}

func TestImpatientLooksAreFastAndFailOnlyOnTime(t *testing.T) {
	k := &track{spec: contracts.Probe{Period: 10, SuccessThreshold: 1, FailureThreshold: 2}}
	now := time.Unix(1000, 0)
	var waits []time.Duration
	for now.Before(time.Unix(1009, 0)) {
		wait := k.seen(now, false, true)
		waits = append(waits, wait)
		now = now.Add(wait)
	}
	if waits[0] != firstFast || len(waits) < 5 {
		t.Errorf("looks after %v", waits)
	}
	if k.failed {
		t.Error("it failed within one period, of which two have to fail")
	}
	k.seen(time.Unix(1010, 0), false, true)
	if !k.failed {
		t.Error("it has not failed after two periods")
	}
}

func TestLooksSayWhatIsWrong(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/broken":
			http.Error(w, "the database is gone", http.StatusInternalServerError)
		case "/slow":
			<-r.Context().Done()
		case "/header":
			if r.Header.Get("X-Key") != "yes" {
				w.WriteHeader(http.StatusForbidden)
			}
		}
	}))
	defer s.Close()
	host, portText, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(portText)
	if err != nil {
		t.Fatal(err)
	}
	port := int32(n)
	l := looker{at: reconcile.Address{Host: host}, exec: func(_ context.Context, command []string) error {
		if command[0] == "false" {
			return errors.New("exit code 1")
		}
		return nil
	}}
	http := func(path string, headers ...contracts.EnvVar) contracts.Probe {
		return contracts.Probe{HTTP: &contracts.HTTPProbe{Path: path, Port: port, Headers: headers}, Timeout: 1}
	}
	for _, c := range []struct {
		name  string
		probe contracts.Probe
		want  string
	}{
		{"a page", http("/"), ""},
		{"a redirection", http("/redirect"), ""},
		{"an error", http("/broken"), "500"},
		{"no answer", http("/slow"), "no answer within 1s"},
		{"a header", http("/header", contracts.EnvVar{Name: "X-Key", Value: "yes"}), ""},
		{"an open port", contracts.Probe{TCP: &contracts.TCPProbe{Port: port}, Timeout: 1}, ""},
		{"a closed port", contracts.Probe{TCP: &contracts.TCPProbe{Port: 1}, Timeout: 1}, "refused"},
		{"a command", contracts.Probe{Exec: []string{"true"}, Timeout: 1}, ""},
		{"a command that fails", contracts.Probe{Exec: []string{"false"}, Timeout: 1}, "exit code 1"},
	} {
		err := l.look(t.Context(), c.probe)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A mapped port is accepted by somebody who is not the container, and closes when the
// container does not listen.
func TestLookAtMappedPorts(t *testing.T) {
	listen := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serve(conn)
			}
		}()
		return l.Addr().String()
	}
	l := looker{at: reconcile.Address{Mapped: map[int32]string{
		1: listen(func(c net.Conn) { _ = c.Close() }),
		2: listen(func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) }),
		3: listen(func(c net.Conn) { _, _ = c.Write([]byte("220 hello\r\n")) }),
	}}}
	for port, want := range map[int32]string{1: "nobody listens", 2: "", 3: "", 4: "not mapped"} {
		err := l.look(t.Context(), contracts.Probe{TCP: &contracts.TCPProbe{Port: port}, Timeout: 1})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("port %d: %v, want %q", port, err, want)
		}
	}
	if err := l.look(t.Context(), contracts.Probe{HTTP: &contracts.HTTPProbe{Port: 4}, Timeout: 1}); err == nil || !strings.Contains(err.Error(), "not mapped") {
		t.Errorf("HTTP to a port that is not mapped: %v", err)
	}
}
