package desired

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"k8s.io/utils/clock"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/fleetview"
)

// BenchmarkTell tells devices, signed, and beside that writes the same without signing:
// what is lost to signatures, in one run on one machine.
func BenchmarkTell(b *testing.B) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: b.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		b.Fatal("nats-server is not ready after 10 s")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := bus.JetStream(nc)
	if err != nil {
		b.Fatal(err)
	}
	if err := bus.EnsureStreams(b.Context(), js, bus.StreamOptions{}); err != nil {
		b.Fatal(err)
	}
	pair, err := nkeys.CreateOperator()
	if err != nil {
		b.Fatal(err)
	}
	signer, err := contracts.NewSigner(pair)
	if err != nil {
		b.Fatal(err)
	}
	view := fleetview.New(fleetview.Options{Clock: clock.RealClock{}, Signer: signer.Public()})
	store := &Store{JetStream: js, View: view, Clock: clock.RealClock{}, Signer: signer}
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always",
		Containers: []contracts.Container{{Name: "app", Image: "app:1", PullPolicy: "Always", Args: []string{strings.Repeat("x", 500)}}}}}
	state := contracts.DesiredState{Deployment: "app", Namespace: "shops", Revision: "app-1", Digest: score.Digest(), Score: score, Issued: 1}
	value, err := contracts.Encode(state)
	if err != nil {
		b.Fatal(err)
	}
	const devices = 20_000
	tellings := make([]Telling, devices)
	for i := range tellings {
		tellings[i] = Telling{Device: contracts.DeviceID(fmt.Sprintf("d%05d", i)), State: &state, Value: value}
	}
	envelope, err := signer.Tell("d00000", "app", value)
	if err != nil {
		b.Fatal(err)
	}
	rate := func(b *testing.B) {
		b.ReportMetric(float64(devices)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
		b.ReportMetric(float64(len(envelope)), "B/key")
		b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "cores")
	}
	b.Run("raw", func(b *testing.B) {
		for b.Loop() {
			w := bus.NewWriter(js)
			for i := range tellings {
				if err := w.Put(context.Background(), tellings[i].Device, "app", envelope); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
	b.Run("signed", func(b *testing.B) {
		for b.Loop() {
			if err := store.Tell(context.Background(), tellings); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
}
