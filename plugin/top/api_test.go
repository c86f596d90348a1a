package top

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// api is a live API over HTTP.
type api struct {
	*httptest.Server

	mu sync.Mutex
	// run counts restarts: versions of one run are not known to the next.
	run     int
	running chan struct{}
	// refusal is what every request is answered with; nil for none.
	refusal *apierrors.StatusError
	lists   map[string][]any
	events  map[string]chan any
}

func serve(t *testing.T) *api {
	t.Helper()
	a := &api{run: 1, running: make(chan struct{}), lists: map[string][]any{}, events: map[string]chan any{"heartbeats": make(chan any, 9), "placements": make(chan any, 9)}}
	f := fleet()
	for _, h := range f.heartbeats.objects {
		a.lists["heartbeats"] = append(a.lists["heartbeats"], h)
	}
	for _, p := range f.placements.objects {
		a.lists["placements"] = append(a.lists["placements"], p)
	}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

// refuse ends all watches and answers every request with an error, until it is nil.
func (a *api) refuse(refusal *apierrors.StatusError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.run++
	close(a.running)
	a.running, a.refusal = make(chan struct{}), refusal
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	a.mu.Lock()
	refusal, version, running := a.refusal, fmt.Sprint(a.run), a.running
	a.mu.Unlock()
	watching := r.URL.Query().Get("watch") != ""
	if refusal == nil && watching && r.URL.Query().Get("resourceVersion") != version {
		refusal = apierrors.NewResourceExpired("of another run")
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case refusal != nil:
		status := refusal.ErrStatus
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(status.Details.RetryAfterSeconds))
		}
		w.WriteHeader(int(status.Code))
		_ = json.NewEncoder(w).Encode(status)
	case !watching:
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": metav1.ListMeta{ResourceVersion: version}, "items": a.lists[resource]})
	default:
		w.WriteHeader(http.StatusOK)
		for {
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-running:
				return
			case event := <-a.events[resource]:
				_ = json.NewEncoder(w).Encode(event)
			}
		}
	}
}

// change tells those who watch of a heartbeat.
func (a *api) change(h *live.Heartbeat) {
	h.TypeMeta = metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Heartbeat"}
	h.ResourceVersion = "1"
	a.events["heartbeats"] <- map[string]any{"type": "MODIFIED", "object": h}
}

// env is an environment whose kubeconfig leads to the API.
func (a *api) env(t *testing.T, streams genericiooptions.IOStreams) *cli.Env {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
		users: [{name: u, user: {}}], contexts: [{name: c, context: {cluster: c, user: u, namespace: shops}}]}`, a.URL)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := cli.NewEnv(streams)
	env.Config.KubeConfig = &path
	begun := time.Now()
	env.Now = func() time.Time { return now.Add(time.Since(begun)) }
	env.Getenv = func(name string) string { return map[string]string{"LANG": "C.UTF-8", "TERM": "xterm"}[name] }
	return env
}

// unready is the answer while the operator reads the buckets.
func unready() *apierrors.StatusError {
	err := apierrors.NewServiceUnavailable("the fleet is not in view yet")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

func forbidden() *apierrors.StatusError {
	return apierrors.NewForbidden(schema.GroupResource{Group: live.GroupVersion.Group, Resource: "heartbeats"}, "",
		errors.New(`User "ops" cannot watch resource "heartbeats" in API group "live.fleet.nationtech.io" in the namespace "shops"`))
}
