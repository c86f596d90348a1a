package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	fluxmeta "github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/test/env"
)

// elsewhere is a namespace of another team.
const elsewhere = "fleet-elsewhere"

// syncs makes a Kustomization of the fleet's repository, as the team may write one.
func (s *suite) syncs(name, path string, change func(*kustomizev1.Kustomization)) *kustomizev1.Kustomization {
	s.Helper()
	k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: name}, Spec: kustomizev1.KustomizationSpec{
		SourceRef:          kustomizev1.CrossNamespaceSourceReference{Kind: "GitRepository", Name: env.RepositoryName},
		ServiceAccountName: "fleet-sync", Path: "./" + path, Prune: true,
		Interval: metav1.Duration{Duration: 10 * time.Minute}, RetryInterval: &metav1.Duration{Duration: 2 * time.Second}, Timeout: &metav1.Duration{Duration: limit},
	}}
	if change != nil {
		change(k)
	}
	s.must("sync "+name, s.Client.Create(s.Context(), k))
	s.Cleanup(func() {
		if err := s.Client.Delete(context.Background(), k); err != nil {
			s.Error(err)
		}
	})
	return k
}

// settles waits until Flux says how a Kustomization is, in these words.
func (s *suite) settles(k *kustomizev1.Kustomization, ready metav1.ConditionStatus, words ...string) {
	s.Helper()
	s.must("wait", env.Until(s.Context(), limit, "Kustomization "+k.Name+" has Ready="+string(ready), func(ctx context.Context) error {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(k), k); err != nil {
			return err
		}
		c := meta.FindStatusCondition(k.Status.Conditions, fluxmeta.ReadyCondition)
		if c == nil || c.Status != ready {
			return fmt.Errorf("it has %+v", c)
		}
		for _, w := range words {
			if !strings.Contains(c.Message, w) {
				return fmt.Errorf("%q is not in %s: %s", w, c.Reason, c.Message)
			}
		}
		return nil
	}))
}

const strayDevice = `apiVersion: fleet.nationtech.io/v1alpha1
kind: Device
metadata:
  name: stray
  namespace: %s
`

// tenant has the team's repository say what is not the team's to say. Flux acts with the
// team's rights, so that the API server refuses it, and says so where the team looks.
func (s *suite) tenant() {
	ctx := s.Context()
	s.must("make a namespace", s.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: elsewhere}}))
	refused := map[string]struct {
		text   string
		object client.Object
	}{
		"a-device": {fmt.Sprintf(strayDevice, elsewhere), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "stray"}}},
		"a-deployment": {fmt.Sprintf(`apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata:
  name: stray
  namespace: %s
spec:
  targetSelector: {}
  score:
    podman:
      containers:
      - name: stray
        image: example.org/stray:1
`, elsewhere), &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "stray"}}},
		"a-configmap": {fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: stray\n  namespace: %s\n", elsewhere),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere, Name: "stray"}}},
		"a-namespace": {"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: stray\n", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "stray"}}},
		"more-rights": {fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: stray
  namespace: %[1]s
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: admin
subjects:
- kind: ServiceAccount
  name: fleet-sync
  namespace: %[1]s
`, env.Namespace), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "stray"}}},
	}
	folder := func(name, text string) string {
		path := filepath.Join("stray", name)
		s.must("make a folder", os.MkdirAll(filepath.Join(s.Repository.Dir, path), 0o755))
		s.must("write", s.Repository.Write(path+"/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- stray.yaml\n"))
		s.must("write", s.Repository.Write(path+"/stray.yaml", text))
		return path
	}
	for name, r := range refused {
		folder(name, r.text)
	}
	own := folder("own", fmt.Sprintf(strayDevice, env.Namespace))
	s.push("Reach for what is another's")

	waiting := map[string]*kustomizev1.Kustomization{}
	for name := range refused {
		waiting[name] = s.syncs(name, filepath.Join("stray", name), nil)
	}
	for name, r := range refused {
		s.settles(waiting[name], metav1.ConditionFalse, "orbidden", "system:serviceaccount:"+env.Namespace+":fleet-sync", "stray")
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(r.object), r.object); !apierrors.IsNotFound(err) {
			s.Errorf("%s: it is there (%v)", name, err)
		}
	}

	// With the scaffold's targetNamespace what is meant for elsewhere stays at home.
	home := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: env.Namespace, Name: "stray"}}
	s.settles(s.syncs("at-home", "stray/a-device", func(k *kustomizev1.Kustomization) { k.Spec.TargetNamespace = env.Namespace }), metav1.ConditionTrue)
	s.must("get it", s.Client.Get(ctx, client.ObjectKeyFromObject(home), home))
	away := &v1alpha1.Device{}
	if err := s.Client.Get(ctx, client.ObjectKey{Namespace: elsewhere, Name: "stray"}, away); !apierrors.IsNotFound(err) {
		s.Errorf("a Device was made in another namespace (%v)", err)
	}

	// Whoever may write Kustomizations gets no more by leaving the account out, or by
	// naming another's; and nobody takes from another's source.
	s.settles(s.syncs("nobody", own, func(k *kustomizev1.Kustomization) { k.Spec.ServiceAccountName = "" }),
		metav1.ConditionFalse, "orbidden", "system:serviceaccount:"+env.Namespace+":default")
	s.settles(s.syncs("another", own, func(k *kustomizev1.Kustomization) {
		k.Namespace, k.Spec.SourceRef.Namespace = elsewhere, env.Namespace
	}), metav1.ConditionFalse, "cross-namespace")
}
