package deployment

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/rollout"
)

// Secrets of others the operator may read where manifests/rbac/team.yaml is bound.
//+kubebuilder:rbac:groups="",namespace=fleet-system,resources=secrets,verbs=create
//+kubebuilder:rbac:groups="",namespace=fleet-system,resources=secrets,resourceNames=fleet-operator-digests,verbs=get

// secretsInterval is how often a Deployment looks whether its Secrets have changed, at
// most: to be told, the operator would need the right to read all there are.
const secretsInterval = 30 * time.Second

// lookAtSecrets is when to look again. At random, so that Deployments don't all at once.
func (r *Reconciler) lookAtSecrets() time.Duration {
	interval := cmp.Or(r.LookAtSecrets, secretsInterval)
	return interval/2 + mathrand.N(interval/2)
}

// await is when to try a Deployment again that can't be resolved: nobody tells of a Secret
// that is missing, and of everything else somebody does.
func (r *Reconciler) await(obj *v1alpha1.Deployment) ctrl.Result {
	if len(resolve.SecretReferences(obj.Spec.Score)) == 0 {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: r.lookAtSecrets()}
}

// SaltName is the Secret in the operator's namespace that has the salt of the digests of
// secrets. It is made when it is missing; made anew, every Deployment that refers to a
// Secret rolls out once.
const SaltName = "fleet-operator-digests"

const saltKey = "salt"

// salt is what digests of secrets are salted with, once it was read.
type salt struct {
	mu    sync.Mutex
	value resolve.Salt
}

// secrets reads the Secrets that a score refers to; a missing one is left out.
func (r *Reconciler) secrets(ctx context.Context, namespace string, score v1alpha1.Score) (map[string]*resolve.Secret, error) {
	names := resolve.SecretReferences(score)
	if len(names) == 0 {
		return nil, nil
	}
	salt, err := r.readSalt(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]*resolve.Secret{}
	for _, name := range names {
		s := &corev1.Secret{}
		err := r.APIReader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, s)
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err):
			return nil, &resolve.InvalidError{Reason: fmt.Sprintf("the operator may not read Secrets in namespace %s: bind the ClusterRole fleet-operator-team to it there", namespace)}
		case err != nil:
			return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, name, err)
		default:
			out[name] = salt.Secret(s)
		}
	}
	return out, nil
}

// readSalt reads the salt, and makes it where there is none.
func (r *Reconciler) readSalt(ctx context.Context) (resolve.Salt, error) {
	r.salt.mu.Lock()
	defer r.salt.mu.Unlock()
	if r.salt.value != nil {
		return r.salt.value, nil
	}
	key := client.ObjectKey{Namespace: r.Namespace, Name: SaltName}
	s := &corev1.Secret{}
	err := r.APIReader.Get(ctx, key, s)
	if apierrors.IsNotFound(err) {
		value := make([]byte, 32)
		rand.Read(value) // it never fails
		s = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: map[string][]byte{saltKey: value}}
		// Where another was faster, the next try reads what it has made.
		err = r.Create(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("the salt for digests of secrets, Secret %s: %w", key, err)
	}
	if len(s.Data[saltKey]) < 16 {
		return nil, fmt.Errorf("the salt for digests of secrets: Secret %s has no %s of at least 16 bytes; remove it to have one made", key, saltKey)
	}
	r.salt.value = s.Data[saltKey]
	return r.salt.value, nil
}

// reseal tells again, unchanged, the devices whose secrets are sealed to a key that they
// have no longer, unless they are told something anyway.
func (l *looked) reseal(u *update, tells []rollout.Tell) (again []rollout.Tell) {
	told := make(map[int]bool, len(tells))
	for _, t := range tells {
		told[t.Index] = true
	}
	waves := map[string]int{}
	for i, w := range l.input.Waves {
		waves[w.Name] = i
	}
	for i := range l.input.Devices {
		d := &l.input.Devices[i]
		if l.curves[i] == "" || l.sealedTo[i] == "" || l.curves[i] == l.sealedTo[i] || told[i] {
			continue
		}
		t := rollout.Tell{Index: i, Wave: waves[d.ToldWave], FailedBefore: d.FailedBefore}
		switch {
		case d.Told == rollout.Ref{Revision: u.name, Digest: d.Want}:
		case d.Back != "" && d.Told == rollout.Ref{Revision: l.input.Current, Digest: d.Back}:
			t.Back = true
		default:
			continue // it is told the update before long
		}
		again = append(again, t)
	}
	return again
}

// newSealer makes what seals one batch, and a key to try it with, if anything is to be
// sealed.
func newSealer(sealing bool) (sealer *contracts.Sealer, anybody string, err error) {
	if !sealing {
		return nil, "", nil
	}
	if sealer, err = contracts.NewSealer(); err != nil {
		return nil, "", err
	}
	return sealer, sealer.Public(), nil
}

// sealed is a value for one device: that of its message, with the secrets sealed to it.
func sealed(m *message, sealer *contracts.Sealer, to string) (*contracts.DesiredState, []byte, error) {
	state := m.state
	var err error
	if state.Sealed, err = sealer.Seal(m.secrets, to); err != nil {
		return nil, nil, err
	}
	value, err := contracts.Encode(state)
	return &state, value, err
}
