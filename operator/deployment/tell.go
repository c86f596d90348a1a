package deployment

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/desired"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/resolve"
	"github.com/nationtech/fleet/operator/rollout"
)

// sameBytes tells apart what devices are told.
type sameBytes struct {
	variant      *variant
	wave         int
	failedBefore bool
}

// message is what devices are told that are told the same.
type message struct {
	state contracts.DesiredState
	bytes []byte
	// secrets are sealed to each device apart; the bytes are without them.
	secrets map[string][]byte
}

// tell writes what was decided to the bus. All messages are made before the first
// is written, so that what can't be written is written to nobody.
func (r *Reconciler) tell(ctx context.Context, obj *v1alpha1.Deployment, update *update, l looked, tells []rollout.Tell) error {
	messages := map[sameBytes]*message{}
	tellings := make([]desired.Telling, len(tells))
	issued, back := r.View.NextIssued(), 0
	sealer, anybody, err := newSealer(l.sealing)
	if err != nil {
		return err
	}
	for n, t := range tells {
		of, v := update.resolved, l.variants[t.Index]
		if t.Back {
			of, v = update.current, l.backs[t.Index]
			back++
		}
		same := sameBytes{v, t.Wave, t.FailedBefore}
		m := messages[same]
		if m == nil {
			m = &message{secrets: of.template.Secrets(), state: contracts.DesiredState{
				Deployment: contracts.DeploymentName(obj.Name), Namespace: obj.Namespace, Revision: of.name, Digest: v.digest,
				Generation: obj.Generation, Score: v.score, Time: l.input.Now.UTC(), Wave: l.input.Waves[t.Wave].Name, FailedBefore: t.FailedBefore,
				DeadlineSeconds: int64(obj.Spec.Rollout.ProgressDeadline.Seconds()), Issued: issued,
			}}
			if !t.Back {
				m.state.Number = update.revision.Revision
			}
			if obj.Status.Source != nil && !t.Back {
				m.state.Commit = obj.Status.Source.Commit
			}
			var err error
			if len(m.secrets) > 0 {
				// Sealed to anybody, it has the size that it has for everybody.
				_, m.bytes, err = sealed(m, sealer, anybody)
			} else {
				m.bytes, err = contracts.Encode(m.state)
			}
			if err != nil {
				return &resolve.InvalidError{Reason: err.Error()}
			}
			messages[same] = m
		}
		tellings[n] = desired.Telling{Device: l.members[t.Index].ID, State: &m.state, Value: m.bytes}
		if len(m.secrets) > 0 {
			to := l.curves[t.Index]
			tellings[n].Seal = func() (*contracts.DesiredState, []byte, error) { return sealed(m, sealer, to) }
		}
	}
	if err := r.Store.Tell(ctx, tellings); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("told devices", "revision", update.name, "devices", len(tells)-back, "back", back)
	return nil
}

// withdraw takes back what devices were told for a Deployment.
func (r *Reconciler) withdraw(ctx context.Context, key types.NamespacedName, devices []contracts.DeviceID) error {
	if len(devices) == 0 {
		return nil
	}
	keys := make([]fleetview.Key, len(devices))
	for i, id := range devices {
		keys[i] = fleetview.Key{Device: id, Deployment: contracts.DeploymentName(key.Name)}
	}
	if err := r.Store.Withdraw(ctx, keys); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("withdrawn from devices", "devices", len(devices))
	return nil
}
