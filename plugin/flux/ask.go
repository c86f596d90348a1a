package flux

import (
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Ask has Flux reconcile an object now. What it is asked by stands in the object's
// status.lastHandledReconcileAt once Flux has done so.
func Ask(ctx context.Context, c client.Client, o client.Object, now time.Time) (token string, err error) {
	token = now.Format(time.RFC3339Nano)
	asked, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		return "", fmt.Errorf("copy of %T is not an object", o)
	}
	annotations := asked.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[meta.ReconcileRequestAnnotation] = token
	asked.SetAnnotations(annotations)
	if err := c.Patch(ctx, asked, client.MergeFrom(o), FieldOwner); err != nil {
		return "", fmt.Errorf("ask Flux to reconcile %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	}
	return token, nil
}
