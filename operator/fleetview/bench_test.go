package fleetview_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"k8s.io/utils/clock"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
	"github.com/nationtech/fleet/operator/liveapi"
	"github.com/nationtech/fleet/operator/roster"
)

// buckets are what the bus holds of a fleet, each device with three Deployments.
func buckets(b *testing.B, signer *contracts.Signer, devices int) map[contracts.Bucket][]bus.Entry {
	b.Helper()
	now := time.Now()
	out := map[contracts.Bucket][]bus.Entry{}
	add := func(bucket contracts.Bucket, key string, value []byte, err error) {
		if err != nil {
			b.Fatal(err)
		}
		out[bucket] = append(out[bucket], bus.Entry{Bucket: bucket, Key: key, Value: value, Sequence: uint64(len(out[bucket]) + 1), Time: now})
	}
	const deployments = 3
	var told [deployments]contracts.DesiredState
	var values [deployments][]byte
	for n := range deployments {
		score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always", Containers: []contracts.Container{{
			Name: "app", Image: fmt.Sprint("registry.example.com/app:", n), PullPolicy: "Always", Env: []contracts.EnvVar{{Name: "SETTINGS", Value: strings.Repeat("x", 500)}},
		}}}}
		told[n] = contracts.DesiredState{Deployment: contracts.DeploymentName(fmt.Sprint("app-", n)), Namespace: "shops", Revision: fmt.Sprintf("app-%d-1", n),
			Digest: score.Digest(), Score: score, Wave: "rest", Number: 1, Issued: now.UnixMicro(), Time: now.UTC()}
		var err error
		if values[n], err = contracts.Encode(told[n]); err != nil {
			b.Fatal(err)
		}
	}
	for d := range devices {
		id := contracts.DeviceID(fmt.Sprintf("device-%06d", d))
		for n, t := range told {
			envelope, err := signer.Tell(id, t.Deployment, values[n])
			add(contracts.BucketDesiredState, contracts.DesiredStateKey(id, t.Deployment), envelope, err)
			report, err := contracts.Encode(contracts.DeploymentState{Deployment: t.Deployment, Revision: t.Revision, Digest: t.Digest, Phase: contracts.PhaseRunning,
				Containers: []contracts.ContainerState{{Name: "app", ID: fmt.Sprintf("%064d", d), Image: "registry.example.com/app:1", State: "running", Ready: true}},
				Seq:        4, Issued: t.Issued, Time: now, Since: now.Add(-time.Second)})
			add(contracts.BucketDeviceState, contracts.DeviceStateKey(id, t.Deployment), report, err)
		}
		info, err := contracts.Encode(contracts.DeviceInfo{Device: id, Hostname: string(id), OS: "Debian GNU/Linux 12", Arch: "arm64", Kernel: "6.1.0", AgentVersion: "v1.0.0",
			BootID: fmt.Sprintf("%036d", d), Drivers: map[string]string{"podman": "4.3.1"}, Capacity: contracts.Capacity{CPUs: 4, MemoryBytes: 4 << 30},
			Addresses: []string{fmt.Sprintf("10.0.%d.%d", d/256%256, d%256)}, PublicKey: fmt.Sprintf("U%055d", d), Time: now})
		add(contracts.BucketDeviceInfo, contracts.DeviceInfoKey(id), info, err)
		heartbeat, err := contracts.Encode(contracts.HeartbeatPayload{Seq: 9, Time: now.UnixMilli(), Interval: 30, Uptime: 300})
		add(contracts.BucketDeviceHeartbeat, contracts.HeartbeatKey(id), heartbeat, err)
	}
	return out
}

// BenchmarkFold reads what the bus holds of a fleet, as an operator does that starts, and
// says what one entry of each bucket takes and how much a device with three Deployments
// needs in view and live API together. Beside it is what json.Valid takes, which is the
// least that reading a value can be had for.
func BenchmarkFold(b *testing.B) {
	pair, err := nkeys.CreateOperator()
	if err != nil {
		b.Fatal(err)
	}
	signer, err := contracts.NewSigner(pair)
	if err != nil {
		b.Fatal(err)
	}
	const devices = 20_000
	entries := buckets(b, signer, devices)
	for b.Loop() {
		before := heap()
		devicesOf, live := roster.New(), liveapi.NewStore(time.Now())
		devicesOf.Observe(func(id contracts.DeviceID, _, d *roster.Device) { live.Device(id, d) })
		for d := range devices {
			one := &v1alpha1.Device{}
			one.Namespace, one.Name, one.Labels = "shops", fmt.Sprintf("device-%06d", d), map[string]string{"site": "mtl"}
			devicesOf.Set(one)
		}
		withRoster := heap()
		view := fleetview.New(fleetview.Options{Clock: clock.RealClock{}, Signer: signer.Public(), Observer: live, OnMalformed: func(m fleetview.Malformed) { b.Fatal(m.Err) }})
		for bucket, list := range entries {
			begun := time.Now()
			for _, e := range list {
				json.Valid(e.Value)
			}
			b.ReportMetric(float64(time.Since(begun).Nanoseconds())/float64(len(list)), string(bucket)+"-raw-ns")
			begun = time.Now()
			for _, e := range list {
				view.Fold(e)
			}
			b.ReportMetric(float64(time.Since(begun).Nanoseconds())/float64(len(list)), string(bucket)+"-ns")
		}
		b.ReportMetric(float64(heap()-withRoster)/devices, "B/device")
		b.ReportMetric(float64(withRoster-before)/devices, "roster-B/device")
		if got := view.Totals(); got.Running != 3*devices || got.Online != devices {
			b.Fatalf("%+v", got)
		}
		runtime.KeepAlive(devicesOf)
		runtime.KeepAlive(live)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
