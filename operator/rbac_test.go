package operator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/features"
	featurestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/deployment"
	"github.com/nationtech/fleet/test/simulated"
)

// replayer is who repeats what the operator asked for.
const replayer = "replayer"

// TestTheOperatorHasNoRightItDoesNotUse has the operator do all that it does, takes each
// verb of each resource of its shipped roles away, and sees one of the very requests that
// it made refused. A right that can be taken away unnoticed is one too many. That none is
// missing is seen at the end of all tests, whose operators have these roles alone.
func TestTheOperatorHasNoRightItDoesNotUse(t *testing.T) {
	installFlux(t)
	f := newLiveFleet(t)
	f.doEverything()
	f.stop()
	// An API server that can't stream a list is asked for it.
	featurestesting.SetFeatureDuringTest(t, features.WatchListClient, false)
	f.stop = f.startOperator()
	f.edit("app", image("3"))
	f.complete("app", 1)
	f.stop()
	asked, err := f.asked()
	must(t, err)
	replay := newReplay(t, f.operatorConfig)
	for _, g := range grants(f) {
		t.Run(g.name, func(t *testing.T) {
			made := slices.DeleteFunc(slices.Clone(asked), func(e auditv1.Event) bool { return !g.covers(e) })
			if len(made) == 0 {
				t.Fatal("the operator does nothing that needs it")
			}
			// Of the last, the object is there still.
			request := made[len(made)-1]
			g.take(t)
			eventually(t, func() string {
				code, answer := replay.do(t, request)
				if code != http.StatusForbidden {
					return fmt.Sprintf("%s %s is answered %d without it: %.300s", request.Verb, request.RequestURI, code, answer)
				}
				return ""
			})
			g.give(t)
			eventually(t, func() string {
				if code, answer := replay.do(t, request); code == http.StatusForbidden {
					return "refused for another reason: " + answer
				}
				return ""
			})
		})
	}
}

// doEverything has the operator do each thing once that it asks the API server for.
func (f *fleet) doEverything() {
	f.Helper()
	ctx := f.Context()
	f.device(simulated.Running)
	source := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
		"metadata": map[string]any{"namespace": f.namespace, "name": "shops"},
		"status":   map[string]any{"lastAttemptedRevision": "main@sha1:4ddd4d9", "lastAppliedRevision": "main@sha1:4ddd4d9"},
	}}
	must(f.T, f.client.Create(ctx, source))
	must(f.T, f.client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "settings"}, Data: map[string]string{"A": "b"}}))
	// The salt of the digests is there since another test, perhaps.
	salt := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: deployment.SaltName}}
	must(f.T, client.IgnoreNotFound(f.client.Delete(ctx, salt)))
	f.secret("creds", map[string]string{"PASSWORD": "x"})
	make := func(d *v1alpha1.Deployment) {
		d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "shops", "kustomize.toolkit.fluxcd.io/namespace": f.namespace}
		d.Spec.RevisionHistoryLimit = new(int32(0))
		d.Spec.Score.Podman.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{
			{ConfigMapRef: &v1alpha1.ConfigMapRef{Name: "settings"}}, {SecretRef: &v1alpha1.SecretRef{Name: "creds"}},
		}
	}
	f.deploy("app", make)
	f.complete("app", 1)
	f.edit("app", image("2"))
	last := f.complete("app", 1).Status.UpdateRevision
	// Nobody collects garbage here, so the revision stays, and is made one that nobody owns.
	app := f.get("app")
	must(f.T, f.client.Delete(ctx, app))
	eventually(f.T, func() string {
		if err := f.client.Get(ctx, client.ObjectKeyFromObject(app), app); !apierrors.IsNotFound(err) {
			return fmt.Sprint("the Deployment is still there: ", err)
		}
		return ""
	})
	left := &appsv1.ControllerRevision{}
	must(f.T, f.client.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: last}, left))
	left.OwnerReferences = nil
	must(f.T, f.client.Update(ctx, left))
	f.deploy("app", func(d *v1alpha1.Deployment) { make(d); image("2")(d) })
	f.complete("app", 1)
	f.event(f.namespace, "app", v1alpha1.ReasonRolloutComplete)
	// An event that is told again is counted.
	eventually(f.T, func() string {
		events := &corev1.EventList{}
		must(f.T, f.client.List(ctx, events, client.InNamespace(f.namespace)))
		for _, e := range events.Items {
			if e.Count > 1 {
				return ""
			}
		}
		f.edit("app", func(d *v1alpha1.Deployment) { d.Spec.Suspend = !d.Spec.Suspend })
		f.complete("app", 1)
		return fmt.Sprintf("none of %d events was told twice", len(events.Items))
	})
	// A device comes with a token.
	_, err := f.joiner(unique(f.T, "till"), f.token(func(k *jointoken.Token) { k.AutoApprove, k.Labels = true, nil })).join(f.T)
	must(f.T, err)
	// Somebody looks, who may.
	user := "viewer-of-" + f.namespace
	f.bind(f.namespace, person(user), "fleet-view")
	eventually(f.T, func() string {
		if err := f.as(f.T, user).List(ctx, &live.HeartbeatList{}, client.InNamespace(f.namespace)); err != nil {
			return err.Error()
		}
		return ""
	})
}

// person is somebody whom the API server knows by a name.
func person(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}
}

// bind gives somebody ClusterRoles in a namespace.
func (f *fleet) bind(namespace string, who rbacv1.Subject, roles ...string) {
	f.Helper()
	for _, role := range roles {
		must(f.T, f.client.Create(f.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: strings.ReplaceAll(who.Name+"-"+role, ":", "-")},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{who},
		}))
	}
}

// grant is one right of the operator: a verb of a resource in a role that is shipped,
// or a whole role of Kubernetes' own.
type grant struct {
	name   string
	covers func(auditv1.Event) bool
	// take takes it away, give gives it back.
	take, give func(*testing.T)
}

// grants are all that the manifests give the operator.
func grants(f *fleet) (out []grant) {
	f.Helper()
	objects, err := shipped("rbac")
	must(f.T, err)
	roles, mine := map[string]*unstructured.Unstructured{}, map[string]bool{}
	for _, o := range objects {
		if o.GetKind() == "Role" || o.GetKind() == "ClusterRole" {
			roles[o.GetKind()+" "+o.GetName()] = o
		}
	}
	for _, o := range objects {
		var binding rbacv1.RoleBinding // has the fields of a ClusterRoleBinding too
		if !strings.HasSuffix(o.GetKind(), "RoleBinding") {
			continue
		}
		must(f.T, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &binding))
		if !slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == "fleet-operator" && s.Namespace == systemNamespace }) {
			continue
		}
		role := binding.RoleRef.Kind + " " + binding.RoleRef.Name
		if o := roles[role]; o != nil {
			mine[role] = true
			out = append(out, verbs(f, o)...)
			continue
		}
		out = append(out, grant{
			name: role,
			covers: func(e auditv1.Event) bool {
				return strings.Contains(e.Annotations["authorization.k8s.io/reason"], fmt.Sprintf("of %s %q", binding.RoleRef.Kind, binding.RoleRef.Name))
			},
			take: func(t *testing.T) { must(t, f.client.Delete(t.Context(), o.DeepCopy())) },
			give: func(t *testing.T) { must(t, f.client.Create(t.Context(), o.DeepCopy())) },
		})
	}
	for role, o := range roles {
		if !mine[role] && strings.HasPrefix(o.GetName(), "fleet-operator") {
			// Bound by whoever makes a team's namespace, and here by newFleet.
			out = append(out, verbs(f, o)...)
		}
	}
	return out
}

// verbs are the rights of one role.
func verbs(f *fleet, o *unstructured.Unstructured) (out []grant) {
	f.Helper()
	var role rbacv1.Role // has the fields of a ClusterRole too
	must(f.T, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
	set := func(rules []rbacv1.PolicyRule) func(*testing.T) {
		return func(t *testing.T) {
			patch, err := json.Marshal(map[string]any{"rules": rules})
			must(t, err)
			must(t, f.client.Patch(t.Context(), o.DeepCopy(), client.RawPatch(types.MergePatchType, patch)))
		}
	}
	for i, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rest := slices.Delete(slices.Clone(role.Rules), i, i+1)
					for _, g := range rule.APIGroups {
						for _, r := range rule.Resources {
							left := rule.DeepCopy()
							left.APIGroups, left.Resources = []string{g}, []string{r}
							if g == group && r == resource {
								left.Verbs = slices.DeleteFunc(left.Verbs, func(v string) bool { return v == verb })
							}
							if len(left.Verbs) > 0 {
								rest = append(rest, *left)
							}
						}
					}
					out = append(out, grant{
						name: fmt.Sprintf("%s %s may %s %s", o.GetKind(), o.GetName(), verb, strings.Trim(resource+"."+group, ".")),
						covers: func(e auditv1.Event) bool {
							return (o.GetNamespace() == "" || e.ObjectRef != nil && e.ObjectRef.Namespace == o.GetNamespace()) &&
								covers(group, resource, verb, rule.ResourceNames, e)
						},
						take: set(rest), give: set(role.Rules),
					})
				}
			}
		}
	}
	return out
}

func covers(group, resource, verb string, names []string, e auditv1.Event) bool {
	if e.ObjectRef == nil {
		return false
	}
	if owner, ok := strings.CutSuffix(resource, "/finalizers"); ok {
		// Asked for by the check of owners, when an object is made that holds up the
		// deletion of its owner.
		return verb == "update" && e.Verb == "create" && e.RequestObject != nil && owner == "deployments" &&
			bytes.Contains(e.RequestObject.Raw, []byte(`"blockOwnerDeletion":true`))
	}
	asked := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		asked += "/" + e.ObjectRef.Subresource
	}
	return e.ObjectRef.APIGroup == group && asked == resource && e.Verb == verb && (len(names) == 0 || slices.Contains(names, e.ObjectRef.Name))
}

// replay repeats requests as the operator, and changes nothing by it.
type replay struct {
	host   string
	client *http.Client
}

func newReplay(t *testing.T, config *rest.Config) *replay {
	t.Helper()
	config = rest.CopyConfig(config)
	config.UserAgent = replayer
	c, err := rest.HTTPClientFor(config)
	must(t, err)
	return &replay{strings.TrimSuffix(config.Host, "/"), c}
}

// do repeats a request, and returns the code and the beginning of the answer.
func (r *replay) do(t *testing.T, e auditv1.Event) (int, string) {
	t.Helper()
	u, err := url.Parse(r.host + e.RequestURI)
	must(t, err)
	method := map[string]string{
		"get": http.MethodGet, "list": http.MethodGet, "watch": http.MethodGet,
		"create": http.MethodPost, "patch": http.MethodPatch, "update": http.MethodPut, "delete": http.MethodDelete,
	}[e.Verb]
	if method == "" {
		t.Fatalf("how is the verb %s repeated?", e.Verb)
	}
	var body io.Reader
	if method != http.MethodGet {
		q := u.Query()
		q.Set("dryRun", "All")
		u.RawQuery = q.Encode()
		if e.RequestObject != nil {
			body = bytes.NewReader(e.RequestObject.Raw)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), method, u.String(), body)
	must(t, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", string(types.MergePatchType))
	}
	response, err := r.client.Do(request)
	must(t, err)
	defer response.Body.Close()
	if e.Verb == "watch" {
		return response.StatusCode, "" // which goes on
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	must(t, err)
	return response.StatusCode, string(answer)
}
