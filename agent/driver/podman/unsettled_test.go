package podman

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/podmantest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// registry has one image, with a program at /app, and counts how often that is fetched.
func registry(t *testing.T, program string) (image string, fetched *atomic.Int32) {
	t.Helper()
	data, err := os.ReadFile(program)
	must(t, err)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	must(t, w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}))
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	blobs := map[string][]byte{}
	put := func(kind string, data []byte) map[string]any {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
		blobs[digest] = data
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": digest, "size": len(data)}
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		must(t, err)
		return data
	}
	tarball := put("layer.v1.tar", layer.Bytes())
	config := put("config.v1+json", encode(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/app"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{tarball["digest"]}}}))
	manifest := encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{tarball}})
	fetched = &atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch data, known := blobs[digest]; {
		case strings.HasSuffix(r.URL.Path, "/manifests/1"):
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write(manifest) // podman says what it has not got
		case known:
			if digest == tarball["digest"] {
				fetched.Add(1)
			}
			_, _ = w.Write(data) // see above
		case r.URL.Path != "/v2/":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/shop/app:1", fetched
}

// TestWhatAPowerCutLeftEmptyIsMadeAnew empties a program in podman's storage, as a power cut
// does before the disk has it.
func TestWhatAPowerCutLeftEmptyIsMadeAnew(t *testing.T) {
	program, err := podmantest.BuildTestApp(t.Context(), t.TempDir())
	must(t, err)
	image, fetched := registry(t, program)
	host, _, _ := strings.Cut(image, "/")
	storage := t.TempDir()
	p, err := podmantest.Start(t.Context(), podmantest.Options{Name: "cut", Dir: storage, InsecureRegistries: []string{host}})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	score := contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always", Containers: []contracts.Container{{Name: "app", Image: image, PullPolicy: "IfNotPresent"}}}}
	want, err := reconcile.Compile(contracts.DesiredState{V: contracts.Version, Deployment: "app", Namespace: "shops", Revision: "r-1", Digest: score.Digest(), Score: score, Issued: 1}, reconcile.Settings{Device: "till"})
	must(t, err)
	state := t.TempDir()
	boot := func(id string) *Driver {
		d, err := New(Options{Device: "till", Socket: p.Socket, VolumeDir: filepath.Join(state, "volumes"), Unsettled: filepath.Join(state, "unsettled.json"), BootID: id, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		must(t, err)
		return d
	}
	bring := func(d *Driver) (id string, err error) {
		pulled := map[string]bool{}
		for range 20 {
			o, err := d.Observe(t.Context(), "app", want)
			if err != nil {
				return "", err
			}
			plan := reconcile.Decide(want, o, reconcile.Memory{Now: time.Now(), Pulled: pulled})
			if len(plan.Steps) == 0 {
				return o.Pods[0].Containers[0].ID, nil
			}
			for _, s := range plan.Steps {
				if err := d.Do(t.Context(), want, s); err != nil {
					return "", err
				}
				if s.Kind == reconcile.Pull {
					pulled[s.Image] = true
				}
			}
		}
		return "", fmt.Errorf("it does not end")
	}
	// The container's own program ends with 0, so it is there and whole.
	runs := func(id string) error {
		_, err := p.Run("exec", id, "/app", "exit", "0")
		return err
	}
	cut := func() {
		t.Helper()
		_, err := p.Run("pod", "stop", "--all", "--time=0")
		must(t, err)
	}
	made, err := bring(boot("first"))
	must(t, err)
	if err := runs(made); err != nil || fetched.Load() != 1 {
		t.Fatalf("at first %v, fetched %d times", err, fetched.Load())
	}
	cut()
	emptied := 0
	must(t, filepath.WalkDir(storage, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "app" && e.Type().IsRegular() {
			emptied++
			err = os.Truncate(path, 0)
		}
		return err
	}))
	if emptied == 0 {
		t.Fatalf("no program is found below %s", storage)
	}
	// Not that of an earlier boot, so nothing is known to be wrong.
	if id, err := bring(boot("first")); err == nil && runs(id) == nil {
		t.Fatal("an empty program runs")
	}
	d := boot("second")
	anew, err := bring(d)
	must(t, err)
	if err := runs(anew); err != nil || fetched.Load() != 2 {
		t.Errorf("after the power cut %v, fetched %d times", err, fetched.Load())
	}
	// The agent alone starts again, before the disk has everything.
	if again, err := bring(boot("second")); err != nil || again != anew || fetched.Load() != 2 {
		t.Errorf("when the agent has started again %v, container %s was %s, fetched %d times", err, again, anew, fetched.Load())
	}
	must(t, d.Settle(t.Context(), "app", want))
	cut()
	again, err := bring(boot("third"))
	must(t, err)
	if err := runs(again); err != nil || fetched.Load() != 2 {
		t.Errorf("after a power cut when the disk had everything %v, fetched %d times", err, fetched.Load())
	}
}

func TestWhatIsBeingWrittenStaysUnsettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "unsettled.json")
	log := slog.New(slog.DiscardHandler)
	u := openUnsettled(path, "first", log)
	pod, image := item{Pod: "app"}, item{Image: "registry.example/app:1"}
	must(t, u.begin(image))
	must(t, u.write(pod, u.settle))
	must(t, u.settle()) // the pod is written, the image is not
	if left := openUnsettled(path, "second", log).doubtful; len(left) != 1 || left[0] != image {
		t.Errorf("doubtful are %+v", left)
	}
	if left := openUnsettled(path, "first", log).doubtful; len(left) != 0 {
		t.Errorf("in the same boot doubtful are %+v", left)
	}
	u.end(image)
	must(t, u.settle())
	if left := openUnsettled(path, "second", log).doubtful; len(left) != 0 {
		t.Errorf("when the disk has everything doubtful are %+v", left)
	}
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	if left := openUnsettled(path, "second", log); len(left.doubtful) != 0 || left.write(pod, func() error { return nil }) != nil {
		t.Errorf("a file that can't be read: %+v", left)
	}
}
