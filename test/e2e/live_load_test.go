package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/env"
)

// How the placements are put under load.
const (
	loadRate    = 1000
	loadReports = 10_000
	loadNames   = 10
	// visible is how soon a report has to be seen.
	visible = 250 * time.Millisecond
)

// reports sends reports from every simulated device at the rate, numbered from first
// by their message, and returns how long each took to be stored. tell is called with
// the number before one is sent.
func (s *suite) reports(first, count int, tell func(int)) []time.Duration {
	s.Helper()
	stored := make([]time.Duration, count)
	var next atomic.Int64
	var devices sync.WaitGroup
	begun := time.Now()
	for _, d := range s.Simulated {
		devices.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / loadRate)))
				tell(first + n)
				sent := time.Now()
				if err := d.Report(s.Context(), contracts.DeploymentState{
					Deployment: contracts.DeploymentName(fmt.Sprintf("load-%d", n%loadNames)), Revision: "load-1", Digest: "0123456789abcdef",
					Phase: contracts.PhaseRunning, Message: strconv.Itoa(first + n), Seq: uint64(first + n + 1),
				}); err != nil {
					s.Error(err)
					return
				}
				stored[n] = time.Since(sent)
			}
		})
	}
	devices.Wait()
	return stored
}

func quantile(all []time.Duration, q float64) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[int(float64(len(all)-1)*q)].Round(100 * time.Microsecond)
}

// load watches the placements while devices report, and while the operator is killed.
func (s *suite) load() {
	config, err := clientcmd.BuildConfigFromFlags("", s.ControlPlane.Kubeconfig)
	s.must("read the kubeconfig", err)
	client, err := dynamic.NewForConfig(config)
	s.must("make a client", err)
	resource := client.Resource(live.GroupVersion.WithResource("placements")).Namespace(env.Namespace)
	ctx, cancel := context.WithCancel(s.Context())

	var mu sync.Mutex
	sent, seen := map[int]time.Time{}, map[int]time.Duration{}
	see := func(object any) {
		now := time.Now()
		message, _, _ := unstructured.NestedString(object.(*unstructured.Unstructured).Object, "status", "message")
		n, err := strconv.Atoi(message)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if _, again := seen[n]; !again {
			seen[n] = now.Sub(sent[n])
		}
	}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, env.Namespace, nil)
	informer := factory.ForResource(live.GroupVersion.WithResource("placements")).Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: see, UpdateFunc: func(_, now any) { see(now) }})
	s.must("watch", err)
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())

	stored := s.reports(0, loadReports, func(n int) {
		mu.Lock()
		defer mu.Unlock()
		sent[n] = time.Now()
	})
	s.must("wait", env.Until(ctx, limit, "every report is seen", func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) < loadReports {
			return fmt.Errorf("%d of %d", len(seen), loadReports)
		}
		return nil
	}))
	mu.Lock()
	took := slices.Collect(maps.Values(seen))
	mu.Unlock()
	s.Logf("%d reports at %d/s: stored by NATS after %v (p50) %v (p99), seen in a watch after %v (p50) %v (p99) %v (max)",
		loadReports, loadRate, quantile(stored, 0.5), quantile(stored, 0.99), quantile(took, 0.5), quantile(took, 0.99), quantile(took, 1))
	if p99 := quantile(took, 0.99); p99 > visible {
		s.Errorf("a report is seen after %v at p99, want at most %v", p99, visible)
	}

	// Again, with the operator killed on the way.
	reports := map[string]string{}
	killed := make(chan error, 1)
	go func() {
		var err error
		for range 2 {
			time.Sleep(loadReports / loadRate * time.Second / 4)
			s.Operator.Kill()
			if err = s.StartOperator(ctx); err != nil {
				break
			}
		}
		killed <- err
	}()
	s.reports(loadReports, loadReports, func(int) {})
	s.must("restart the operator", <-killed)
	s.must("wait", env.Until(ctx, limit, "the informer has what the operator has", func(ctx context.Context) error {
		list, err := resource.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		clear(reports)
		for _, o := range list.Items {
			reports[o.GetName()] = o.GetResourceVersion()
		}
		if len(reports) < len(s.Simulated)*loadNames {
			return fmt.Errorf("there are %d placements", len(reports))
		}
		has := map[string]string{}
		for _, o := range informer.GetStore().List() {
			u := o.(*unstructured.Unstructured)
			has[u.GetName()] = u.GetResourceVersion()
		}
		if !maps.Equal(has, reports) {
			return fmt.Errorf("the informer has %d placements, the operator %d, or other versions of them", len(has), len(reports))
		}
		return nil
	}))
}
