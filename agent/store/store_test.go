package store

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

func desired(name contracts.DeploymentName, image string) contracts.DesiredState {
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{
		RestartPolicy: "Always", Containers: []contracts.Container{{Name: "app", Image: image, PullPolicy: "Always"}}}}
	return contracts.DesiredState{V: contracts.Version, Deployment: name, Namespace: "shops", Revision: "r-1", Digest: score.Digest(), Score: score, Issued: 1, Time: time.Unix(0, 0).UTC()}
}

// told is an order as it was signed.
func told(t *testing.T, name contracts.DeploymentName, image string) contracts.Order {
	t.Helper()
	value, err := contracts.Encode(desired(name, image))
	must(t, err)
	return signed(t, name, contracts.Envelope{Value: value})
}

func withdrawn(t *testing.T, name contracts.DeploymentName, issued int64) contracts.Order {
	t.Helper()
	value, err := contracts.Encode(contracts.Withdrawal{Deployment: name, Issued: issued})
	must(t, err)
	return signed(t, name, contracts.Envelope{Withdrawal: value})
}

func signed(t *testing.T, name contracts.DeploymentName, e contracts.Envelope) contracts.Order {
	t.Helper()
	pair, err := nkeys.CreateOperator()
	must(t, err)
	signer, err := contracts.NewSigner(pair)
	must(t, err)
	data, err := signer.Again("till", name, e)
	must(t, err)
	o, err := contracts.DecodeOrder(data, name)
	must(t, err)
	return o
}

func report(name contracts.DeploymentName) Record {
	return Record{Report: contracts.DeploymentState{V: contracts.Version, Deployment: name, Revision: "r-1", Digest: "0123456789abcdef", Phase: contracts.PhaseRunning, Seq: 7, Time: time.Unix(0, 0).UTC()}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // some tests close it before
	return s
}

func TestWhatIsPutIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.PutOrder(told(t, "a", "one")))
	must(t, s.PutOrder(told(t, "a", "two")))
	must(t, s.PutOrder(told(t, "b", "one")))
	must(t, s.PutRecord(report("a")))
	must(t, s.PutOrder(withdrawn(t, "b", 7)))
	must(t, s.Close())
	s = open(t, dir)
	d, err := s.Orders()
	must(t, err)
	r, err := s.Records()
	must(t, err)
	if len(d) != 2 || d["a"].Desired.Score.Podman.Containers[0].Image != "two" || d["b"].Desired != nil || d["b"].Issued != 7 || len(r) != 1 || r["a"].Report.Seq != 7 {
		t.Errorf("desired %+v, records %+v", d, r)
	}
	must(t, s.DeleteRecord("a"))
	if r, err = s.Records(); err != nil || len(r) != 0 {
		t.Errorf("records %+v, %v", r, err)
	}
}

func TestADirectoryIsForOneAgent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	reader, err := OpenToRead(dir)
	must(t, err)
	if running, err := reader.Running(); err != nil || !running {
		t.Errorf("running %v, %v", running, err)
	}
	must(t, s.Close())
	if running, err := reader.Running(); err != nil || running {
		t.Errorf("after the end: running %v, %v", running, err)
	}
	open(t, dir)
}

func TestWhatCannotBeReadIsSetAsideAndTheRestGoesOn(t *testing.T) {
	for name, content := range map[string]string{
		"half a file":          `{"v":1,"deployment":"a","na`,
		"nothing":              "",
		"another's":            `{"v":1,"deployment":"other"}`,
		"of a later version":   `{"v":9}`,
		"zeroes of a bad disk": string(make([]byte, 512)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			must(t, s.PutOrder(told(t, "good", "one")))
			must(t, s.PutRecord(report("good")))
			for _, part := range []string{desiredDir, recordDir} {
				must(t, os.WriteFile(filepath.Join(dir, part, "bad.json"), []byte(content), 0o600))
			}
			d, err := s.Orders()
			must(t, err)
			r, err := s.Records()
			must(t, err)
			if len(d) != 1 || len(r) != 1 {
				t.Errorf("desired %+v, records %+v", d, r)
			}
			if _, err := os.Stat(filepath.Join(dir, desiredDir, "bad.json.corrupt")); err != nil {
				t.Errorf("it is not set aside: %v", err)
			}
		})
	}
}

func TestUnfinishedWritesAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir).Close())
	left := filepath.Join(dir, desiredDir, ".new-123")
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	s := open(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if d, err := s.Orders(); err != nil || len(d) != 0 {
		t.Errorf("desired %+v, %v", d, err)
	}
}

func TestAWriteThatFailsLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must(t, WriteFile(path, []byte("old"), 0o600))
	// A directory in the place of the file can't be replaced by one.
	blocked := filepath.Join(dir, "blocked")
	must(t, os.MkdirAll(filepath.Join(blocked, "full"), 0o700))
	if err := WriteFile(blocked, []byte("new"), 0o600); err == nil {
		t.Error("no error")
	}
	if err := WriteFile(filepath.Join(dir, "missing", "file"), nil, 0o600); err == nil {
		t.Error("no error for a directory that is not there")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("the file has %q, %v", data, err)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAgentStateIsReadBack(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Agent(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first: %v", err)
	}
	must(t, s.PutAgent(Agent{Device: "till", Connected: true}))
	if a, err := s.Agent(); err != nil || a.Device != "till" || !a.Connected {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestGoodIsKeptUntilTheRecordGoes(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.PutGood(desired("web", "app:1")), s.PutGood(desired("other", "app:1")), s.PutRecord(report("web")), s.PutOrder(withdrawn(t, "web", 7))); err != nil {
		t.Fatal(err)
	}
	good, err := s.Good()
	if err != nil || len(good) != 2 || good["web"].Revision != "r-1" {
		t.Errorf("good is %v, %v", good, err)
	}
	if err := s.DeleteRecord("web"); err != nil {
		t.Fatal(err)
	}
	if good, err = s.Good(); err != nil || len(good) != 1 {
		t.Errorf("after the record has gone good is %v, %v", good, err)
	}
}
