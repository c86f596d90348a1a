package status

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/contracts"
)

var now = time.Unix(100_000, 0)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func render(t *testing.T, c config.Config) (Status, string) {
	t.Helper()
	s, err := Gather(c)
	must(t, err)
	if s.PublicKey != "" {
		s.PublicKey = "UKEY"
	}
	var out bytes.Buffer
	must(t, Render(&out, s, now))
	return s, out.String()
}

func TestScreens(t *testing.T) {
	dir := t.TempDir()
	c := config.Config{Device: "till-1", StateDir: filepath.Join(dir, "state"), NATS: config.NATS{URL: "nats://fleet:4222", SeedFile: filepath.Join(dir, "state", "identity.nk")}}
	_, got := render(t, c)
	if want := "Device:    till-1\nIdentity:  none yet; `fleet-agent identity` makes one\nAgent:     has never run with this state directory\n" +
		"Server:    nats://fleet:4222\n\nThe device was told to run nothing.\n"; got != want {
		t.Errorf("never run:\n%s", got)
	}

	disk, err := store.Open(c.StateDir, slog.New(slog.DiscardHandler))
	must(t, err)
	_, err = identity.Ensure(c.NATS.SeedFile)
	must(t, err)
	must(t, disk.PutAgent(store.Agent{Device: "till-1", Version: "v1.2.3", Started: now.Add(-3 * time.Hour), Since: now.Add(-20 * time.Minute), Error: "nats: no servers available",
		Refused: &store.Refused{Count: 3, Deployment: "hello", Reason: "it is signed with OX", Time: now.Add(-time.Minute)}}))
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always", Containers: []contracts.Container{{Name: "a", Image: "b", PullPolicy: "Always"}}}}
	pair, err := nkeys.CreateOperator()
	must(t, err)
	signer, err := contracts.NewSigner(pair)
	must(t, err)
	for _, name := range []contracts.DeploymentName{"hello", "new"} {
		value, err := contracts.Encode(contracts.DesiredState{Deployment: name, Namespace: "shops", Revision: string(name) + "-2", Digest: score.Digest(), Score: score, Commit: "abc", Issued: 1})
		must(t, err)
		data, err := signer.Tell("till-1", name, value)
		must(t, err)
		must(t, disk.PutOrder(contracts.Order{Deployment: name, Envelope: data}))
	}
	must(t, disk.PutRecord(store.Record{Report: contracts.DeploymentState{V: 1, Deployment: "hello", Revision: "hello-1", Digest: score.Digest(),
		Phase: contracts.PhaseFailed, Reason: "PortInUse", Message: "port 80 is taken", Restarts: 2, Seq: 1, Time: now, Since: now.Add(-time.Hour)}}))
	s, got := render(t, c)
	for _, want := range []string{
		"Identity:  UKEY", "Agent:     running, version v1.2.3, for 3h", "Server:    nats://fleet:4222, not connected for 20m: nats: no servers available",
		"Refused:   3 orders, the last 60s ago for hello: it is signed with OX",
		"hello       Failed   hello-2   60m    2         PortInUse: port 80 is taken", "new         Pending  new-2     -      0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if !s.Running || len(s.Deployments) != 2 || s.Deployments[0].Told != "hello-2" || s.Deployments[0].Commit != "abc" {
		t.Errorf("gathered %+v", s)
	}
	var out bytes.Buffer
	must(t, JSON(&out, s))
	var back Status
	must(t, json.Unmarshal(out.Bytes(), &back))
	if back.Deployments[0].Report.Reason != "PortInUse" {
		t.Errorf("JSON:\n%s", out.String())
	}
	must(t, disk.Close())
	if _, got = render(t, c); !strings.Contains(got, "Agent:     not running; containers go on without it") {
		t.Errorf("not running:\n%s", got)
	}
}
