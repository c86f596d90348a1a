package operator_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/test/simulated"
)

// tenants are two teams of one cluster. The one of the fleet has a device that runs
// something; the other is an administrator of a namespace beside it.
type tenants struct {
	*fleet
	device *sim
	// user is the other's name, own their namespace, as what they do.
	user, own string
	as        client.WithWatch
	http      *http.Client
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	installFlux(t)
	f := newLiveFleet(t)
	x := &tenants{fleet: f, device: f.device(simulated.Running), user: "neighbour-of-" + f.namespace}
	for name, data := range map[string]string{"settings": "theirs"} {
		must(t, f.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, Data: map[string]string{"A": data}}))
		must(t, f.client.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, StringData: map[string]string{"A": data}}))
	}
	f.deploy("app", nil)
	f.complete("app", 1)
	// Before the fleet's in the alphabet, which decides where age does not.
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "a-"}}
	must(t, f.client.Create(t.Context(), own))
	x.own = own.Name
	// Kubernetes' role admin is the sum of these; nobody sums up here.
	x.bind(x.own, person(x.user), "system:aggregate-to-view", "system:aggregate-to-edit", "system:aggregate-to-admin", "fleet-view", "fleet-edit", "fleet-admin")
	x.as = f.as(t, x.user)
	config := rest.CopyConfig(f.config)
	config.Impersonate.UserName = x.user
	var err error
	x.http, err = rest.HTTPClientFor(config)
	must(t, err)
	return x
}

// does sends a request of the other, which is to change nothing, and returns the answer.
func (x *tenants) does(method, path string) (int, string) {
	x.Helper()
	if method != http.MethodGet && !strings.Contains(path, "/placements/") {
		path += "?dryRun=All"
	}
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPatch {
		body = strings.NewReader("{}")
	}
	request, err := http.NewRequestWithContext(x.Context(), method, strings.TrimSuffix(x.config.Host, "/")+path, body)
	must(x.T, err)
	request.Header.Set("Content-Type", map[string]string{http.MethodPatch: "application/merge-patch+json"}[method])
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := x.http.Do(request)
	must(x.T, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 2048))
	must(x.T, err)
	return response.StatusCode, string(answer)
}

// others has what one may ask for in a namespace of one's own and in no other; {} is the
// namespace, DEVICE a device of the fleet.
var others = []struct{ method, path string }{
	{http.MethodGet, "/api/v1/namespaces/{}/secrets"},
	{http.MethodGet, "/api/v1/namespaces/{}/secrets/settings"},
	{http.MethodGet, "/api/v1/namespaces/{}/configmaps/settings"},
	{http.MethodGet, "/api/v1/namespaces/{}/events"},
	{http.MethodGet, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices"},
	{http.MethodGet, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices/DEVICE"},
	{http.MethodPost, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices"},
	{http.MethodPatch, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices/DEVICE"},
	{http.MethodDelete, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices/DEVICE"},
	{http.MethodDelete, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/devices"},
	{http.MethodGet, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments"},
	{http.MethodGet, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments/app"},
	{http.MethodPost, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments"},
	{http.MethodPatch, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments/app"},
	{http.MethodDelete, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments/app"},
	{http.MethodDelete, "/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/deployments"},
	{http.MethodGet, "/apis/apps/v1/namespaces/{}/controllerrevisions"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/heartbeats"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/heartbeats/DEVICE"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements/DEVICE.app"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements/DEVICE.app/log"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements/DEVICE.app/exec"},
	{http.MethodPost, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements/DEVICE.app/exec"},
	{http.MethodPost, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/placements/DEVICE.app/restart"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/fleethealths"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/fleethealths/fleet"},
	{http.MethodGet, "/apis/live.fleet.nationtech.io/v1alpha1/namespaces/{}/devices/DEVICE/ping"},
}

func TestATenantReachesNothingOfAnother(t *testing.T) {
	x := newTenants(t)
	in := func(path, namespace string) string {
		return strings.NewReplacer("{}", namespace, "DEVICE", string(x.device.id)).Replace(path)
	}
	for _, tt := range others {
		name := tt.method + " " + strings.ReplaceAll(tt.path[strings.Index(tt.path, "{}"):], "/", " ")
		t.Run(name, func(t *testing.T) {
			// The authorizer learns of new roles a moment later.
			eventually(t, func() string {
				if code, answer := x.does(tt.method, in(tt.path, x.own)); code == http.StatusForbidden || code == http.StatusServiceUnavailable {
					return "not even in the own namespace: " + answer
				}
				return ""
			})
			code, answer := x.does(tt.method, in(tt.path, x.namespace))
			if code != http.StatusForbidden {
				t.Errorf("in the other namespace: %d %s", code, answer)
			}
			// By its name the other's object is not to be had in the own namespace.
			if strings.Contains(tt.path, "live") && strings.Contains(tt.path, "DEVICE") {
				if code, answer := x.does(tt.method, in(tt.path, x.own)); code != http.StatusNotFound {
					t.Errorf("the other's, asked for in the own namespace: %d %s", code, answer)
				}
			}
			if collection := strings.Replace(tt.path, "/namespaces/{}", "", 1); !strings.Contains(collection, "DEVICE") && tt.method == http.MethodGet {
				if code, answer := x.does(tt.method, collection); code != http.StatusForbidden {
					t.Errorf("in all namespaces: %d %s", code, answer)
				}
			}
		})
	}
	// What the operator writes is nobody else's, in the own namespace either.
	for _, path := range []string{"devices/DEVICE/status", "deployments/app/status", "deployments/app/finalizers"} {
		if code, answer := x.does(http.MethodPatch, in("/apis/fleet.nationtech.io/v1alpha1/namespaces/{}/"+path, x.own)); code != http.StatusForbidden {
			t.Errorf("patch %s: %d %s", path, code, answer)
		}
	}
}

// unchanged checks that the fleet's device runs what it ran, and nobody else has it.
func (x *tenants) unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	x.untilDevice(x.device.id, "joined", joined)
	x.complete("app", 1)
	after := x.keys()
	maps.DeleteFunc(after, func(key, _ string) bool { return !strings.HasPrefix(key, string(x.device.id)+".") })
	if !maps.Equal(after, before) {
		t.Errorf("the device is told %v, before %v", after, before)
	}
}

func TestATenantsObjectsReachNothingOfAnother(t *testing.T) {
	x := newTenants(t)
	eventually(t, func() string {
		if err := x.as.List(t.Context(), &v1alpha1.DeploymentList{}, client.InNamespace(x.own)); err != nil {
			return err.Error()
		}
		return ""
	})
	before := x.keys()
	maps.DeleteFunc(before, func(key, _ string) bool { return !strings.HasPrefix(key, string(x.device.id)+".") })
	if len(before) != 1 {
		t.Fatalf("the device is told %v", before)
	}
	// mine is a Deployment of the other for everything.
	mine := func(name string, change func(*v1alpha1.Deployment)) *v1alpha1.Deployment {
		d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: x.own, Name: name}}
		d.Spec.TargetSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "none", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		d.Spec.Score.Podman = &v1alpha1.PodmanScore{Containers: []v1alpha1.Container{{Name: "app", Image: "example.org/evil:1"}}}
		if change != nil {
			change(d)
		}
		return d
	}
	settled := func(t *testing.T, d *v1alpha1.Deployment, what string, wanted func(*v1alpha1.Deployment) bool) {
		t.Helper()
		eventually(t, func() string {
			must(t, x.as.Get(t.Context(), client.ObjectKeyFromObject(d), d))
			if d.Status.ObservedGeneration == d.Generation && wanted(d) {
				return ""
			}
			return fmt.Sprintf("not %s: %+v", what, d.Status)
		})
	}

	t.Run("a Deployment for every device selects none of another namespace", func(t *testing.T) {
		// Of the same name as theirs: both would have one key.
		d := mine("app", nil)
		must(t, x.as.Create(t.Context(), d))
		settled(t, d, "without devices", func(d *v1alpha1.Deployment) bool {
			return d.Status.Aggregate != nil && d.Status.Aggregate.Matched == 0
		})
		x.unchanged(t, before)
		// And its end withdraws nothing of theirs.
		must(t, x.as.Delete(t.Context(), d))
		eventually(t, func() string {
			if err := x.as.Get(t.Context(), client.ObjectKeyFromObject(d), d); err == nil {
				return "still there"
			}
			return ""
		})
		x.unchanged(t, before)
	})

	t.Run("a ConfigMap of another namespace is not found", func(t *testing.T) {
		for _, name := range []string{"settings", x.namespace + "/settings", "../" + x.namespace + "/settings"} {
			d := mine("reads", func(d *v1alpha1.Deployment) {
				d.GenerateName, d.Name = "reads-", ""
				d.Spec.Score.Podman.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ConfigMapRef{Name: name}}}
			})
			if err := x.as.Create(t.Context(), d); name != "settings" {
				if !apierrors.IsInvalid(err) {
					t.Errorf("a ConfigMap called %s: %v", name, err)
				}
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			settled(t, d, "stalled", func(d *v1alpha1.Deployment) bool {
				return reason(d.Status.Conditions, v1alpha1.ConditionStalled) == "True ReferenceNotFound"
			})
			if m := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionStalled).Message; strings.Contains(m, "theirs") {
				t.Errorf("the message has the content: %s", m)
			}
		}
	})

	t.Run("a Device cannot take the ID of another namespace's", func(t *testing.T) {
		// Of two of the same second the namespaces' names decide: docs/guides/tenancy.md.
		theirs := &v1alpha1.Device{}
		must(t, x.client.Get(t.Context(), client.ObjectKey{Namespace: x.namespace, Name: string(x.device.id)}, theirs))
		eventually(t, func() string {
			if time.Since(theirs.CreationTimestamp.Time) < time.Second {
				return "it is the same second still"
			}
			return ""
		})
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: x.own, Name: string(x.device.id)}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), x.publicKey(x.newID())
		must(t, x.as.Create(t.Context(), d))
		x.refusedDevice(t, d, v1alpha1.ReasonDuplicateID)
		// Nor with a Deployment for it.
		app := mine("app", image("2"))
		must(t, x.as.Create(t.Context(), app))
		settled(t, app, "without devices", func(d *v1alpha1.Deployment) bool {
			return d.Status.Aggregate != nil && d.Status.Aggregate.Matched == 0
		})
		x.seesNothing(t)
		x.unchanged(t, before)
		// Nor by being shut out: that is not theirs to say.
		must(t, x.as.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"approved":false}}`))))
		x.refusedDevice(t, d, v1alpha1.ReasonDuplicateID)
		must(t, x.as.Delete(t.Context(), d))
		must(t, x.as.Delete(t.Context(), app))
		x.unchanged(t, before)
	})

	t.Run("a Device cannot take anything by the public key of another namespace's", func(t *testing.T) {
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: x.own, Name: string(x.newID())}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), x.publicKey(x.device.id)
		must(t, x.as.Create(t.Context(), d))
		x.refusedDevice(t, d, v1alpha1.ReasonNeverSeen)
		x.unchanged(t, before)
		// Nor have it disconnected.
		must(t, x.as.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"approved":false}}`))))
		eventually(t, func() string {
			must(t, x.as.Get(t.Context(), client.ObjectKeyFromObject(d), d))
			if got := reason(d.Status.Conditions, v1alpha1.ConditionReady); got != "False "+v1alpha1.ReasonShutOut {
				return "Ready is " + got
			}
			return ""
		})
		if !x.device.Connected() {
			t.Error("the other's device is disconnected")
		}
		x.unchanged(t, before)
		must(t, x.as.Delete(t.Context(), d))
		x.unchanged(t, before)
	})

	t.Run("a label does not tell what another namespace's Kustomization has applied", func(t *testing.T) {
		k := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
			"metadata": map[string]any{"namespace": x.namespace, "name": "shops"},
			"status": map[string]any{
				"lastAttemptedRevision": "main@sha1:4ddd4d9", "lastAppliedRevision": "main@sha1:4ddd4d9",
				"inventory": map[string]any{"entries": []any{map[string]any{"id": x.own + "_listed_fleet.nationtech.io_Deployment", "v": "v1alpha1"}}},
			},
		}}
		must(t, x.client.Create(t.Context(), k))
		for name, want := range map[string]string{"labelled": "", "listed": "main@sha1:4ddd4d9"} {
			d := mine(name, func(d *v1alpha1.Deployment) {
				d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "shops", "kustomize.toolkit.fluxcd.io/namespace": x.namespace}
			})
			must(t, x.as.Create(t.Context(), d))
			settled(t, d, "reconciled", func(d *v1alpha1.Deployment) bool { return d.Status.Source != nil })
			if d.Status.Source.Revision != want {
				t.Errorf("%s: the source is %+v, want %q", name, d.Status.Source, want)
			}
		}
	})

	t.Run("a watch in the own namespace tells of nothing else", func(t *testing.T) {
		placements, err := x.as.Watch(t.Context(), &live.PlacementList{}, client.InNamespace(x.own))
		must(t, err)
		defer placements.Stop()
		// Theirs first, then one's own.
		x.edit("app", image("2"))
		x.complete("app", 1)
		id := x.newID()
		d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: x.own, Name: string(id), Labels: map[string]string{"mine": "yes"}}}
		d.Spec.Approved, d.Spec.PublicKey = new(true), x.publicKey(id)
		must(t, x.as.Create(t.Context(), d))
		x.online(id, simulated.Running)
		must(t, x.as.Create(t.Context(), mine("own", nil)))
		for e := range placements.ResultChan() {
			if e.Type == watch.Error || e.Object.(*live.Placement).Namespace != x.own {
				t.Fatalf("%s %+v", e.Type, e.Object)
			}
			if p := e.Object.(*live.Placement); p.Spec.Device == string(id) && p.Spec.Deployment == "own" {
				return
			}
		}
		t.Error("the watch ended")
	})
}

// refusedDevice waits until the operator has refused a Device, and returns what it says.
func (x *tenants) refusedDevice(t *testing.T, d *v1alpha1.Device, why string) (message string) {
	t.Helper()
	eventually(t, func() string {
		must(t, x.as.Get(t.Context(), client.ObjectKeyFromObject(d), d))
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionJoined} {
			if reason(d.Status.Conditions, kind) != "False "+why {
				return fmt.Sprintf("%s of %s is %+v", kind, d.Name, d.Status.Conditions)
			}
		}
		message = meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady).Message
		return ""
	})
	if d.Status.Info != nil || d.Status.LastHeartbeatTime != nil {
		t.Errorf("it tells of another's device: %+v", d.Status)
	}
	return message
}

// seesNothing checks that the live API has nothing for the other.
func (x *tenants) seesNothing(t *testing.T) {
	t.Helper()
	heartbeats, placements := &live.HeartbeatList{}, &live.PlacementList{}
	must(t, x.as.List(t.Context(), heartbeats, client.InNamespace(x.own)))
	must(t, x.as.List(t.Context(), placements, client.InNamespace(x.own)))
	if slices.ContainsFunc(heartbeats.Items, func(h live.Heartbeat) bool { return h.Name == string(x.device.id) }) || len(placements.Items) > 0 {
		t.Errorf("the other sees %+v and %+v", heartbeats.Items, placements.Items)
	}
}
