package liveapi

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/roster"
)

var (
	heartbeatResource = live.GroupVersion.WithResource("heartbeats")
	placementResource = live.GroupVersion.WithResource("placements")
)

// served is a server that a test feeds.
type served struct {
	testing.TB
	store  *Store
	ready  atomic.Bool
	client dynamic.Interface
	config *restclient.Config
	stop   func()
}

func serveStore(t testing.TB, store *Store) *served {
	t.Helper()
	return serveCommands(t, store, nil)
}

// serveCommands serves a store, and commands of its devices.
func serveCommands(t testing.TB, store *Store, commander Commander) *served {
	t.Helper()
	return serveOptions(t, Options{Store: store, Commander: commander})
}

func serveOptions(t testing.TB, o Options) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &served{TB: t, store: o.Store}
	s.ready.Store(true)
	o.Ready, o.Listener, o.Trusting = s.ready.Load, listener, true
	server, err := NewServer(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Start(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		must(t, <-done)
	})
	t.Cleanup(s.stop)
	s.config = restclient.CopyConfig(server.Loopback())
	s.config.QPS = -1
	s.client, err = dynamic.NewForConfig(s.config)
	must(t, err)
	s.eventually(func() string {
		if _, err := s.client.Resource(heartbeatResource).List(context.Background(), metav1.ListOptions{Limit: 1}); err != nil {
			return err.Error()
		}
		return ""
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *served) eventually(look func() string) {
	s.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for last := look(); last != ""; last = look() {
		if time.Now().After(deadline) {
			s.Fatalf("after 20 s: %s", last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func member(namespace, id string, labels map[string]string) *roster.Device {
	return &roster.Device{ID: contracts.DeviceID(id), Namespace: namespace, UID: types.UID("uid-" + id), Labels: labels, Created: time.Unix(1700000000, 0)}
}

func running(revision string) fleetview.Placement {
	return fleetview.Placement{
		Order:  fleetview.Order{Told: true, Revision: revision, Digest: "d"},
		Report: fleetview.Report{Phase: contracts.PhaseRunning, ReportedRevision: revision, ReportedDigest: "d"},
		ToldAt: time.Now(), ReportedAt: time.Now(), PhaseSince: time.Now(), Online: true,
	}
}

func failing(revision string) fleetview.Placement {
	p := running(revision)
	p.Phase, p.Reason, p.Message = contracts.PhaseFailed, "ImagePullFailed", "it is not there"
	return p
}

func names(l *unstructured.UnstructuredList) (out []string) {
	for _, o := range l.Items {
		out = append(out, o.GetNamespace()+"/"+o.GetName())
	}
	return out
}

func small(t testing.TB) *served {
	store := NewStore(time.Now())
	// In whichever order the halves come.
	store.Heartbeat("till-1", fleetview.Heartbeat{Online: true, Last: time.Now(), Interval: 30 * time.Second, Sequence: 7, AgentVersion: "v1"})
	store.Placement("till-1", "web", running("web-1"))
	store.Device("till-1", member("shops", "till-1", map[string]string{"site": "mtl"}))
	store.Device("till-2", member("shops", "till-2", map[string]string{"site": "tor"}))
	store.Placement("till-2", "web", failing("web-1"))
	store.Device("mast", member("radio", "mast", nil))
	store.Heartbeat("mast", fleetview.Heartbeat{Online: false, Last: time.Now().Add(-time.Hour)})
	// Nobody's.
	store.Heartbeat("stranger", fleetview.Heartbeat{Online: true})
	store.Placement("stranger", "web", running("web-1"))
	return serveStore(t, store)
}

func TestListAndSelect(t *testing.T) {
	s := small(t)
	ctx := t.Context()
	for _, tt := range []struct {
		name    string
		list    dynamic.ResourceInterface
		options metav1.ListOptions
		want    []string
		refuses string
	}{
		{name: "every device that is somebody's", list: s.client.Resource(heartbeatResource), want: []string{"radio/mast", "shops/till-1", "shops/till-2"}},
		{name: "of a namespace", list: s.client.Resource(heartbeatResource).Namespace("shops"), want: []string{"shops/till-1", "shops/till-2"}},
		{name: "of a namespace that there is not", list: s.client.Resource(heartbeatResource).Namespace("none")},
		{name: "by label", list: s.client.Resource(placementResource), options: metav1.ListOptions{LabelSelector: "site=mtl"}, want: []string{"shops/till-1.web"}},
		{name: "by phase", list: s.client.Resource(placementResource), options: metav1.ListOptions{FieldSelector: "status.phase=Failed"}, want: []string{"shops/till-2.web"}},
		{name: "by readiness", list: s.client.Resource(heartbeatResource), options: metav1.ListOptions{FieldSelector: "status.ready=false"}, want: []string{"radio/mast", "shops/till-2"}},
		{name: "by device and revision", list: s.client.Resource(placementResource), options: metav1.ListOptions{FieldSelector: "spec.device=till-1,status.revision=web-1"}, want: []string{"shops/till-1.web"}},
		{name: "by name", list: s.client.Resource(placementResource), options: metav1.ListOptions{FieldSelector: "metadata.name=till-2.web"}, want: []string{"shops/till-2.web"}},
		{name: "by a field that can't", list: s.client.Resource(placementResource), options: metav1.ListOptions{FieldSelector: "status.message=x"}, refuses: `field "status.message" can't select a Placement`},
		{name: "by a token that is none", list: s.client.Resource(placementResource), options: metav1.ListOptions{Continue: "x"}, refuses: "continue token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tt.list.List(ctx, tt.options)
			if tt.refuses != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refuses) {
					t.Errorf("it answers %v, want %q", err, tt.refuses)
				}
				return
			}
			must(t, err)
			if got := names(l); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	o, err := s.client.Resource(heartbeatResource).Namespace("shops").Get(ctx, "till-1", metav1.GetOptions{})
	must(t, err)
	if v, _, _ := unstructured.NestedInt64(o.Object, "status", "sequence"); v != 7 || o.GetLabels()["site"] != "mtl" {
		t.Errorf("it is %v", o)
	}
	if _, err := s.client.Resource(heartbeatResource).Namespace("shops").Get(ctx, "stranger", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a device that is nobody's: %v", err)
	}
}

func TestNothingIsServedBeforeTheViewIsComplete(t *testing.T) {
	s := small(t)
	s.ready.Store(false)
	for what, path := range map[string]string{
		"list": "placements", "get": "namespaces/shops/placements/till-1.web", "watch": "placements?watch=true",
	} {
		// A client waits by itself as it is told to.
		err := s.rest().Get().RequestURI("/apis/live.fleet.nationtech.io/v1alpha1/" + path).MaxRetries(0).Do(t.Context()).Error()
		if !apierrors.IsServiceUnavailable(err) {
			t.Errorf("%s answers %v", what, err)
		}
		if after, ok := apierrors.SuggestsClientDelay(err); !ok || after != retryAfter {
			t.Errorf("%s says to wait %d s (%v)", what, after, ok)
		}
	}
}

// rest is a client that decodes nothing.
func (s *served) rest() *restclient.RESTClient {
	s.Helper()
	config := restclient.CopyConfig(s.config)
	config.APIPath, config.GroupVersion = "/apis", &live.GroupVersion
	config.NegotiatedSerializer = dynamicCodecs()
	c, err := restclient.RESTClientFor(config)
	must(s, err)
	return c
}

func TestTableIsWhatKubectlPrints(t *testing.T) {
	s := small(t)
	c := s.rest()
	raw, err := c.Get().Resource("placements").SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	must(t, err)
	for _, want := range []string{`"kind":"Table"`, `"name":"Phase"`, `"till-2.web",false,"Failed","ImagePullFailed"`, `"kind":"PartialObjectMetadata"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%s is not in %s", want, raw)
		}
	}
	raw, err = c.Get().AbsPath("/openapi/v3/apis/live.fleet.nationtech.io/v1alpha1").DoRaw(t.Context())
	must(t, err)
	if !strings.Contains(string(raw), "is the last sign of life of a Device") {
		t.Error("kubectl explain would have nothing to say of heartbeats")
	}
}

// see collects events as TYPE name until it has so many.
func see(t *testing.T, w watch.Interface, n int) (seen []string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for len(seen) < n {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("the watch has ended after %v", seen)
			}
			if o, ok := e.Object.(*unstructured.Unstructured); ok {
				seen = append(seen, fmt.Sprint(e.Type, " ", o.GetName()))
			} else {
				seen = append(seen, fmt.Sprint(e.Type))
			}
		case <-timeout:
			t.Fatalf("after 10 s there are only %v", seen)
		}
	}
	return seen
}

func TestWatchTellsWhatASelectorSees(t *testing.T) {
	s := small(t)
	ctx := t.Context()
	all := s.client.Resource(placementResource)
	l, err := all.List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Failed"})
	must(t, err)
	w, err := all.Watch(ctx, metav1.ListOptions{FieldSelector: "status.phase=Failed", ResourceVersion: l.GetResourceVersion()})
	must(t, err)
	defer w.Stop()
	s.store.Placement("till-1", "web", running("web-2")) // not seen before, not seen now
	s.store.Placement("till-1", "web", failing("web-2"))
	s.store.Placement("till-2", "web", failing("web-2"))
	s.store.Placement("till-2", "web", running("web-2"))
	s.store.Device("till-1", nil)
	want := []string{"ADDED till-1.web", "MODIFIED till-2.web", "DELETED till-2.web", "DELETED till-1.web"}
	if got := see(t, w, len(want)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// From nothing it begins with what is there.
	fresh, err := all.Watch(ctx, metav1.ListOptions{LabelSelector: "site=tor"})
	must(t, err)
	defer fresh.Stop()
	s.store.Device("till-2", member("shops", "till-2", map[string]string{"site": "mtl"}))
	if got := see(t, fresh, 2); !slices.Equal(got, []string{"ADDED till-2.web", "DELETED till-2.web"}) {
		t.Errorf("from nothing %v", got)
	}
}

func TestAWatchFromTooLongAgoIsToldSo(t *testing.T) {
	s := small(t)
	all := s.client.Resource(placementResource)
	l, err := all.List(t.Context(), metav1.ListOptions{})
	must(t, err)
	late, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: l.GetResourceVersion()})
	must(t, err)
	defer late.Stop()
	for n := range placementHistory + 1 {
		s.store.Placement("till-1", "web", running(fmt.Sprint("web-", n)))
	}
	foreign := fmt.Sprint(s.store.placements.at()<<markBits | (s.store.mark+1)&markMask)
	yesterday := fmt.Sprint(uint64(time.Now().Add(-24*time.Hour).UnixMicro())<<markBits | s.store.mark)
	tomorrow := fmt.Sprint((s.store.placements.at()+1000)<<markBits | s.store.mark)
	for name, version := range map[string]string{"of before": l.GetResourceVersion(), "of another replica": foreign, "of yesterday": yesterday, "that has not come": tomorrow} {
		if _, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: version}); !apierrors.IsResourceExpired(err) {
			t.Errorf("a version %s: %v", name, err)
		}
	}
	if _, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "soon"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a version that is no number: %v", err)
	}
}

// TestAnInformerEndsWithWhatTheOperatorHas changes placements ten thousand times,
// with the operator replaced twice by one that begins anew.
func TestAnInformerEndsWithWhatTheOperatorHas(t *testing.T) {
	const devices, updates = 50, 10_000
	var mu sync.Mutex
	truth := map[contracts.DeviceID]fleetview.Placement{}
	fill := func() *Store {
		store := NewStore(time.Now())
		for n := range devices {
			id := contracts.DeviceID(fmt.Sprintf("d%02d", n))
			store.Device(id, member("shops", string(id), nil))
			if p, ok := truth[id]; ok {
				store.Placement(id, "web", p)
			}
		}
		return store
	}
	// The informer's address stays the same: a proxy in front of whoever serves.
	current := atomic.Pointer[served]{}
	current.Store(serveStore(t, fill()))
	front, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { front.Close() })
	go forward(front, &current)
	config := restclient.CopyConfig(current.Load().config)
	config.Host = "https://" + front.Addr().String()
	config.TLSClientConfig = restclient.TLSClientConfig{Insecure: true}
	// Each server has a token of its own; the transport takes the one of the present.
	config.BearerToken = ""
	config.Wrap(bearer(&current))
	client, err := dynamic.NewForConfig(config)
	must(t, err)
	factory := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	informer := factory.ForResource(placementResource).Informer()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("the informer does not sync")
	}
	for n := range updates {
		if n == updates/3 || n == 2*updates/3 {
			mu.Lock()
			old := current.Load()
			next := serveStore(t, fill())
			current.Store(next)
			old.stop()
			mu.Unlock()
		}
		id := contracts.DeviceID(fmt.Sprintf("d%02d", rand.IntN(devices)))
		p := running(fmt.Sprint("web-", n))
		if rand.IntN(10) == 0 {
			p = fleetview.Placement{Report: fleetview.Report{Phase: contracts.PhaseRemoved}}
		}
		mu.Lock()
		truth[id] = p
		current.Load().store.Placement(id, "web", p)
		mu.Unlock()
	}
	current.Load().eventually(func() string {
		got, want := map[string]string{}, map[string]string{}
		for _, o := range informer.GetStore().List() {
			u := o.(*unstructured.Unstructured)
			got[u.GetName()], _, _ = unstructured.NestedString(u.Object, "spec", "revision")
		}
		rows, _, _, _ := current.Load().store.placements.page("", key{}, 0, func(*row[placement]) bool { return true })
		for _, r := range rows {
			want[r.name] = r.value.order.Value().Revision
		}
		if !maps.Equal(got, want) {
			return fmt.Sprintf("the informer has %v, the operator %v", got, want)
		}
		return ""
	})
}

func TestHundredThousandHeartbeatsInPages(t *testing.T) {
	const devices, limit = 100_000, 500
	store := NewStore(time.Now())
	for n := range devices {
		id := fmt.Sprintf("device-%06d", n)
		store.Device(contracts.DeviceID(id), member("shops", id, map[string]string{"site": "mtl"}))
		store.Heartbeat(contracts.DeviceID(id), fleetview.Heartbeat{Online: true, Last: time.Now(), AgentVersion: "v1"})
	}
	s := serveStore(t, store)
	var before, after runtime.MemStats
	// With what other tests have left given back, the limit below is one.
	debug.FreeOSMemory()
	runtime.ReadMemStats(&before)
	// What is collected in time takes nothing: the limit has the collector see to it.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(before.Sys-before.HeapReleased) + 32<<20))
	begun := time.Now()
	pages, seen := 0, 0
	next := regexp.MustCompile(`"continue":"([^"]*)"`)
	token := ""
	var most uint64
	c := s.rest()
	for {
		// Not decoded: that is the client's affair.
		raw, err := c.Get().Resource("heartbeats").Param("limit", fmt.Sprint(limit)).Param("continue", token).DoRaw(t.Context())
		must(t, err)
		pages++
		seen += strings.Count(string(raw), `"kind":"Heartbeat"`)
		if pages%20 == 0 {
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapInuse-min(before.HeapInuse, after.HeapInuse))
		}
		m := next.FindSubmatch(raw)
		if m == nil {
			break
		}
		token = string(m[1])
	}
	took := time.Since(begun)
	if seen != devices || pages != devices/limit {
		t.Errorf("%d devices in %d pages", seen, pages)
	}
	if most > 64<<20 {
		t.Errorf("it takes %d MiB more", most>>20)
	}
	t.Logf("%d heartbeats in %d pages: %v, at most %d MiB more heap", devices, pages, took.Round(time.Millisecond), most>>20)
}
