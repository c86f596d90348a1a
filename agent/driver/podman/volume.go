package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/contracts"
)

// volumeName is podman's name of a volume that is not the device's. A claim is
// named as in the score, so that a person finds it; the rest goes with its
// deployment.
func volumeName(n contracts.DeploymentName, v reconcile.Volume, o Options) string {
	if v.Claim != "" {
		return v.Claim
	}
	return fmt.Sprintf("fleet_%s_%s_%s", o.Device, n, v.Name)
}

// filesDir is where the files of a volume are. Other content is another
// directory, so that a container never sees half of a change.
func filesDir(root string, n contracts.DeploymentName, v reconcile.Volume) string {
	return filepath.Join(root, string(n), v.Name+"-"+v.Hash[:16])
}

// provide makes the volumes that a container mounts, and its secrets.
func (d *Driver) provide(ctx context.Context, want *reconcile.Desired, u reconcile.Unit) error {
	if err := d.provideSecrets(ctx, want, u); err != nil {
		return err
	}
	done := map[string]bool{}
	for _, m := range u.Spec.Mounts {
		if done[m.Volume] {
			continue
		}
		done[m.Volume] = true
		if err := d.provideVolume(ctx, want, u, want.Volumes[m.Volume]); err != nil {
			return &reconcile.Failure{Reason: reconcile.ReasonVolume, Message: fmt.Sprintf("volume %s: %v", m.Volume, err)}
		}
	}
	return nil
}

func (d *Driver) provideVolume(ctx context.Context, want *reconcile.Desired, u reconcile.Unit, v reconcile.Volume) error {
	switch {
	case v.SecretFiles != nil:
		return nil // podman mounts each of them
	case v.Files != nil:
		return writeFiles(filesDir(d.o.VolumeDir, want.Deployment, v), *v.Files)
	case v.HostPath != nil && v.HostPath.Create:
		return d.makeHostPath(ctx, u, v.HostPath.Path)
	case v.HostPath != nil:
		return nil // podman says so when it is missing
	}
	body := map[string]any{"Name": volumeName(want.Deployment, v, d.o)}
	if v.Claim == "" {
		body["Label"] = map[string]string{LabelDevice: string(d.o.Device), LabelDeployment: string(want.Deployment)}
	}
	if v.EmptyDir != nil && v.EmptyDir.Memory {
		body["Driver"], body["Options"] = "local", map[string]string{"type": "tmpfs", "device": "tmpfs"}
	}
	err := d.c.call(ctx, http.MethodPost, "/volumes/create", nil, body, nil)
	if isCause(err, "volume already exists") {
		return nil
	}
	return err
}

// makeHostPath makes a directory of the device. The agent has no right to do so
// itself and may not even see the directory; podman makes a missing one for the
// binds of its Docker-compatible API. The container is only made for that, never
// started.
func (d *Driver) makeHostPath(ctx context.Context, u reconcile.Unit, path string) error {
	body := map[string]any{
		"Image":      reference(u.Spec.Image),
		"Labels":     map[string]string{LabelDevice: string(d.o.Device)},
		"HostConfig": map[string]any{"Binds": []string{path + ":/fleet"}},
	}
	var made struct {
		ID string `json:"Id"`
	}
	if err := d.c.call(ctx, http.MethodPost, compatPrefix+"/containers/create", nil, body, &made); err != nil {
		return err
	}
	return d.remove(ctx, made.ID)
}

// writeFiles writes a directory at once: it is there as a whole or not at all.
func writeFiles(dir string, files []contracts.File) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(parent, ".new-*")
	if err != nil {
		return err
	}
	if err := fillDir(temp, files); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if err := os.Rename(temp, dir); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return store.SyncDir(parent)
}

func fillDir(dir string, files []contracts.File) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		// A root does not let a path out, whatever the wire has let through.
		if err := errors.Join(makeDirs(root, filepath.Dir(f.Path)), root.WriteFile(f.Path, f.Data, 0o600), root.Chmod(f.Path, fs.FileMode(f.Mode))); err != nil {
			return errors.Join(err, root.Close())
		}
	}
	return errors.Join(root.Close(), syncTree(dir))
}

// makeDirs makes a directory and those above it, which every user of the container may
// enter, whatever the agent's umask is.
func makeDirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeDirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return root.Chmod(dir, 0o755)
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return store.SyncDir(path)
	})
}

// Settle removes what no container of the deployment needs any longer: files and secrets
// of earlier content, and with want nil everything but claims. Volumes of podman are
// left until then: emptyDir lives as long as its deployment.
//
// And it has the disk take what podman has written.
func (d *Driver) Settle(ctx context.Context, n contracts.DeploymentName, want *reconcile.Desired) error {
	if err := d.unsettled.settle(); err != nil {
		return &reconcile.Failure{Reason: reconcile.ReasonVolume, Message: fmt.Sprintf("note what the disk has: %v", err)}
	}
	if err := d.removeFiles(n, want); err != nil {
		return &reconcile.Failure{Reason: reconcile.ReasonVolume, Message: fmt.Sprintf("remove old files: %v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.removeSecrets(ctx, n, want); err != nil {
		return err
	}
	if want != nil {
		return nil
	}
	var volumes []struct{ Name string }
	query := url.Values{"filters": {filters(map[string][]string{"label": {LabelDevice + "=" + string(d.o.Device), LabelDeployment + "=" + string(n)}})}}
	if err := d.c.call(ctx, http.MethodGet, "/volumes/json", query, nil, &volumes); err != nil {
		return d.failure("list volumes", err, reconcile.ReasonVolume)
	}
	for _, v := range volumes {
		err := d.c.call(ctx, http.MethodDelete, "/volumes/"+url.PathEscape(v.Name), nil, nil, nil)
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return d.failure("remove volume "+v.Name, err, reconcile.ReasonVolume)
		}
	}
	return nil
}

func (d *Driver) removeFiles(n contracts.DeploymentName, want *reconcile.Desired) error {
	dir := filepath.Join(d.o.VolumeDir, string(n))
	if want == nil {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, v := range want.Volumes {
		if v.Files != nil {
			keep[filepath.Base(filesDir(d.o.VolumeDir, n, v))] = true
		}
	}
	for _, e := range entries {
		if keep[e.Name()] || strings.HasPrefix(e.Name(), ".new-") && !e.IsDir() {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
