package ownwrite

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Client is a client whose patches of objects and of their status are remembered.
// The patch helper keeps what the API server answers to itself.
func (w *Writes) Client(c client.Client) client.Client { return remembering{c, w} }

type remembering struct {
	client.Client
	writes *Writes
}

func (r remembering) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	err := r.Client.Patch(ctx, obj, patch, opts...)
	if err == nil {
		r.writes.Wrote(obj)
	}
	return err
}

func (r remembering) Status() client.SubResourceWriter {
	return rememberingStatus{r.Client.Status(), r.writes}
}

type rememberingStatus struct {
	client.SubResourceWriter
	writes *Writes
}

func (r rememberingStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	err := r.SubResourceWriter.Patch(ctx, obj, patch, opts...)
	if err == nil {
		r.writes.Wrote(obj)
	}
	return err
}
