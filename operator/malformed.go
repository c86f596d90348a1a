package operator

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/gate"
	"github.com/nationtech/fleet/operator/record"
	"github.com/nationtech/fleet/operator/roster"
)

// malformed tells of keys and values on the bus that can't be read: in the log, and
// as an event of the Device whose they are.
type malformed struct {
	client   client.Client
	roster   *roster.Roster
	recorder *record.Recorder
	log      logr.Logger
	// inView is open when the cache can be asked.
	inView *gate.Gate
}

func (m malformed) tell(bad fleetview.Malformed) {
	m.log.Error(bad.Err, "malformed value on the bus", "bucket", bad.Bucket, "key", bad.Key)
	owner, ok := m.roster.Owner(bad.Device)
	if !ok || !m.inView.IsOpen() {
		return
	}
	// The cache answers at once.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	obj := &v1alpha1.Device{}
	if err := m.client.Get(ctx, types.NamespacedName{Namespace: owner.Namespace, Name: string(bad.Device)}, obj); err != nil {
		return
	}
	m.recorder.Warning(obj, nil, "MalformedValue", "Key %.100q of bucket %s: %s", bad.Key, bad.Bucket, bad.Err)
}
