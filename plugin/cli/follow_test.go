package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// script answers requests in the order in which they are written down.
type script struct {
	t       *testing.T
	mu      sync.Mutex
	answers []answer
}

// answer to one request: what it has to be, such as "list" or "watch 10", and either a
// status or the names of heartbeats: those of a list, with its version, or those that
// a watch tells of before it ends.
type answer struct {
	request string
	status  *metav1.Status
	version string
	names   []string
	// late answers come when the connection counts as lost already.
	late bool
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := "list"
	if version := r.URL.Query().Get("resourceVersion"); r.URL.Query().Get("watch") != "" {
		request = "watch " + version
	}
	s.mu.Lock()
	if len(s.answers) == 0 {
		s.mu.Unlock()
		<-r.Context().Done()
		return
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	s.mu.Unlock()
	if request != a.request {
		s.t.Errorf("was asked for %q, want %q", request, a.request)
	}
	if a.late {
		select {
		case <-r.Context().Done():
		case <-time.After(patience + time.Second):
		}
	}
	w.Header().Set("Content-Type", "application/json")
	write := json.NewEncoder(w).Encode
	switch {
	case a.status != nil:
		a.status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(int(a.status.Code))
		_ = write(a.status)
	case request == "list":
		list := live.HeartbeatList{ListMeta: metav1.ListMeta{ResourceVersion: a.version}}
		for _, name := range a.names {
			list.Items = append(list.Items, *beat(name, a.version))
		}
		_ = write(list)
	default:
		for _, name := range a.names {
			_ = write(map[string]any{"type": "ADDED", "object": beat(name, a.version)})
		}
	}
}

func beat(name, version string) *live.Heartbeat {
	return &live.Heartbeat{
		TypeMeta:   metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Heartbeat"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: name, ResourceVersion: version},
	}
}

func TestFollowerGoesOnThroughRestarts(t *testing.T) {
	// Each test gets a copy: the server answers several at the same time.
	expired := func() *metav1.Status { return &apierrors.NewResourceExpired("of another run").ErrStatus }
	unready := func() *metav1.Status { return &apierrors.NewServiceUnavailable("still reading").ErrStatus }
	forbidden := func() *metav1.Status {
		return &apierrors.NewForbidden(live.GroupVersion.WithResource("heartbeats").GroupResource(), "", nil).ErrStatus
	}
	for name, c := range map[string]struct {
		answers []answer
		// want is what the follower tells of.
		want []string
		// end is part of the error that it ends with; empty when it goes on.
		end string
	}{
		"a version of another run is listed again": {
			[]answer{
				{request: "list", version: "10", names: []string{"a"}},
				{request: "watch 10", version: "11", names: []string{"b"}},
				{request: "watch 11", status: expired()},
				{request: "list", version: "20", names: []string{"c"}},
			},
			[]string{"listed a", "connected", "changed b", "listed c"}, "",
		},
		"a list that is not to be had yet is asked for again": {
			[]answer{
				{request: "list", version: "10"},
				{request: "watch 10", status: expired()},
				{request: "list", status: unready()},
				{request: "list", version: "20", names: []string{"c"}},
				{request: "watch 20", version: "21", names: []string{"d"}},
			},
			[]string{"listed ", "lost", "listed c", "connected", "changed d"}, "",
		},
		"an answer that takes long is a lost connection": {
			[]answer{
				{request: "list", version: "10"},
				{request: "watch 10", late: true, version: "11", names: []string{"b"}},
			},
			[]string{"listed ", "lost", "connected", "changed b"}, "",
		},
		"the first list is the answer, whatever it is": {
			[]answer{{request: "list", status: unready()}}, nil, "still reading",
		},
		"what is no longer allowed is not asked for again": {
			[]answer{
				{request: "list", version: "10"},
				{request: "watch 10", status: expired()},
				{request: "list", status: forbidden()},
			},
			[]string{"listed "}, "forbidden",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(&script{t: t, answers: c.answers})
			defer server.Close()
			end := c.end
			if end == "" {
				end = context.Canceled.Error()
			}
			told, err := follow(t, server.URL, func(told []string) bool { return c.end == "" && len(told) == len(c.want) })
			if !slices.Equal(told, c.want) {
				t.Errorf("told %q, want %q", told, c.want)
			}
			if err == nil || !strings.Contains(err.Error(), end) {
				t.Errorf("ended with %v, want %q in it", err, end)
			}
		})
	}
}

// follow follows until it ends by itself, or enough has been told.
func follow(t *testing.T, host string, enough func([]string) bool) (told []string, err error) {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(&rest.Config{Host: host}, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...))
		if enough(told) {
			cancel()
		}
	}
	f := &Follower{
		Client: c, List: &live.HeartbeatList{},
		Listed: func(objects []client.Object) error {
			var names []string
			for _, o := range objects {
				names = append(names, o.GetName())
			}
			tell("listed %s", strings.Join(names, " "))
			return nil
		},
		Changed: func(_ watch.EventType, o client.Object) error {
			tell("changed %s", o.GetName())
			return nil
		},
		Connection: func(err error) {
			if err != nil {
				tell("lost")
			} else {
				tell("connected")
			}
		},
	}
	err = f.Run(ctx)
	mu.Lock()
	defer mu.Unlock()
	return told, err
}
