package operator_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/agent/join"
	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// bulkVariable says how many devices join in TestManyDevicesJoinAndAreApprovedInBulk; it is
// some when that is a test, and ten thousand when it is a measurement.
const bulkVariable = "FLEET_BULK_JOIN_DEVICES"

// Every device of a delivery joins with one token and waits, until somebody approves all
// of them at once. They connect in this process: sockets end at fewer.
func TestManyDevicesJoinAndAreApprovedInBulk(t *testing.T) {
	devices := 200
	if text := os.Getenv(bulkVariable); text != "" {
		var err error
		devices, err = strconv.Atoi(text)
		must(t, err)
	}
	f := newFleet(t)
	token := f.token(func(k *jointoken.Token) { k.Uses, k.Labels = devices, map[string]string{"site": "mtl"} })
	// An operator that has just started does not answer yet.
	_, err := f.joiner(unique(t, "first"), f.token(nil)).join(t)
	must(t, err)
	dir := t.TempDir()
	var waiting, approved atomic.Int64
	allWait, begun := make(chan struct{}), time.Now()
	var ending sync.WaitGroup
	turns := make(chan struct{}, 256)
	for n := range devices {
		j := f.joiner(fmt.Sprintf("bulk-%05d", n), token)
		j.StateDir = filepath.Join(dir, string(j.Device))
		must(t, os.Mkdir(j.StateDir, 0o700))
		j.SeedFile, j.InProcess, j.Wait, j.Patience = filepath.Join(j.StateDir, "identity.nk"), f.server, true, 10*time.Minute
		var waits sync.Once
		j.Tell = func(format string, _ ...any) {
			if format == join.Waiting {
				waits.Do(func() {
					<-turns
					if waiting.Add(1) == int64(devices) {
						close(allWait)
					}
				})
			}
		}
		turns <- struct{}{}
		ending.Go(func() {
			defer waits.Do(func() { <-turns })
			s, err := join.Join(t.Context(), j.Options)
			if err != nil || s.Standing != contracts.StandingApproved {
				t.Errorf("%s ends as %s, %v", j.Device, s.Standing, err)
				return
			}
			approved.Add(1)
		})
	}
	select {
	case <-allWait:
	case <-time.After(15 * time.Minute):
		t.Fatalf("%d of %d wait", waiting.Load(), devices)
	}
	joined := time.Since(begun)
	secret := &corev1.Secret{}
	must(t, f.client.Get(t.Context(), types.NamespacedName{Namespace: f.namespace, Name: jointoken.SecretName(token.ID)}, secret))
	kept, err := jointoken.FromSecret(secret)
	must(t, err)
	if kept.Used != devices {
		t.Errorf("the token was used %d times, want %d", kept.Used, devices)
	}

	begun = time.Now()
	f.kubectl("approve", "-l", "site=mtl")
	command := time.Since(begun)
	ending.Wait()
	t.Logf("%d devices: all have joined after %.1f s (%.0f a second); kubectl fleet approve -l site=mtl took %.1f s (%.0f a second); all knew after %.1f s",
		devices, joined.Seconds(), float64(devices)/joined.Seconds(), command.Seconds(), float64(devices)/command.Seconds(), time.Since(begun).Seconds())
	t.Logf("beside that: Devices made and approved by %d clients at once, %.0f a second", rawClients, f.rawApprovals())
	if got := approved.Load(); got != int64(devices) {
		t.Errorf("%d of %d are approved", got, devices)
	}
}

const rawClients = 32

// rawApprovals is how many Devices a second the API server takes from clients that make
// and change them, with nobody else at it but the operator.
func (f *fleet) rawApprovals() float64 {
	f.Helper()
	const count = 20 * rawClients
	var clients errgroup.Group
	clients.SetLimit(rawClients)
	begun := time.Now()
	for n := range count {
		clients.Go(func() error {
			d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: fmt.Sprintf("raw-%d-%d", n, begun.UnixNano()%1e6)}}
			if err := f.client.Create(f.Context(), d); err != nil {
				return err
			}
			patch := client.MergeFrom(d.DeepCopy())
			d.Spec.Approved = new(true)
			return f.client.Patch(f.Context(), d, patch)
		})
	}
	must(f.T, clients.Wait())
	return count / time.Since(begun).Seconds()
}
