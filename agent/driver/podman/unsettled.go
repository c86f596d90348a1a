package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/agent/store"
)

// unsettled are the images and pods that podman has written, or is writing, and that the
// disk may not have yet. Podman leaves what it writes to the kernel, half a minute long;
// when the power is cut meanwhile, images and containers are there afterwards whose programs
// are empty, and can't be run ever again. So their names are on the disk before they are
// made, and what a later boot finds there is made anew.
type unsettled struct {
	path, boot string

	mu sync.Mutex
	// items, by the number of the step that wrote them last; under counts the steps that are
	// writing them now.
	items map[item]uint64
	under map[item]int
	ended uint64

	discard sync.Mutex
	// doubtful are of an earlier boot; guarded by discard.
	doubtful []item
}

// item is one of the two: the name of an image as podman has it, or that of a pod.
type item struct {
	Image string `json:"image,omitempty"`
	Pod   string `json:"pod,omitempty"`
}

// record is what the file has.
type record struct {
	BootID string `json:"bootID"`
	Items  []item `json:"items"`
}

// openUnsettled reads what an agent before this one has left. The boot ID is empty where
// the system has none; then nothing is taken for an earlier boot's.
func openUnsettled(path, boot string, log *slog.Logger) *unsettled {
	u := &unsettled{path: path, boot: boot, items: map[item]uint64{}, under: map[item]int{}}
	var left record
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &left)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Error("what was being written when the agent ended is not known: what was cut off then may not run", "file", path, "error", err)
	}
	if left.BootID != boot {
		u.doubtful = left.Items
		return u
	}
	for _, i := range left.Items {
		u.items[i] = 0
	}
	return u
}

// write notes an item on the disk, then has it written.
func (u *unsettled) write(i item, by func() error) error {
	if err := u.begin(i); err != nil {
		return fmt.Errorf("note on the disk what is being made: %w", err)
	}
	defer u.end(i)
	return by()
}

func (u *unsettled) begin(i item) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, noted := u.items[i]; !noted {
		u.items[i] = 0
		if err := u.save(); err != nil {
			delete(u.items, i)
			return err
		}
	}
	u.under[i]++
	return nil
}

func (u *unsettled) end(i item) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended++
	u.items[i] = u.ended
	if u.under[i]--; u.under[i] == 0 {
		delete(u.under, i)
	}
}

// settle has the disk take what podman has written, and forgets what was complete by then.
func (u *unsettled) settle() error {
	complete := map[item]uint64{}
	u.mu.Lock()
	for i, at := range u.items {
		if u.under[i] == 0 {
			complete[i] = at
		}
	}
	u.mu.Unlock()
	if len(complete) == 0 {
		return nil
	}
	unix.Sync()
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, at := range complete {
		if u.items[i] == at && u.under[i] == 0 {
			delete(u.items, i)
		}
	}
	return u.save()
}

// save writes the file; it is called with the lock held.
func (u *unsettled) save() error {
	now := record{BootID: u.boot}
	for i := range u.items {
		now.Items = append(now.Items, i)
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return store.WriteFile(u.path, data, 0o600)
}

// pauseImage is what podman makes for the container that holds a pod's network.
const pauseImage = "localhost/podman-pause"

// discardDoubtful removes the images and pods that were being written when the power was
// cut. The next look finds them missing and makes them. What podman can't remove is said and
// left: it may be complete. The error is that podman does not answer.
func (d *Driver) discardDoubtful(ctx context.Context) error {
	u := d.unsettled
	u.discard.Lock()
	defer u.discard.Unlock()
	if len(u.doubtful) == 0 {
		return nil
	}
	// Pods first, since an image can't be removed while a container has it.
	images, err := d.pauseImages(ctx)
	for _, i := range u.doubtful {
		if err != nil {
			break
		}
		if i.Image != "" {
			images = append(images, i.Image)
			continue
		}
		err = d.removeDoubtful("pod", i.Pod, d.removePod(ctx, i.Pod))
	}
	for _, name := range images {
		if err != nil {
			break
		}
		err = d.removeDoubtful("image", name, d.c.call(ctx, http.MethodDelete, "/images/"+url.PathEscape(name), nil, nil, nil))
	}
	if err != nil {
		return d.failure("remove what was not complete when the power was cut", err, reconcile.ReasonNoDriver)
	}
	// An agent that starts again in this boot is not to remove what has been made anew.
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.save(); err != nil {
		return &reconcile.Failure{Reason: reconcile.ReasonVolume, Message: fmt.Sprintf("note what is complete: %v", err)}
	}
	u.doubtful = nil
	return nil
}

// removeDoubtful says what came of a removal, and returns an error that ends them all.
func (d *Driver) removeDoubtful(kind, name string, err error) error {
	switch {
	case err == nil:
		d.o.Logger.Warn("made anew, since the power was cut before the disk had all of it", kind, name)
	case isUnavailable(err):
		return err
	case isStatus(err, http.StatusNotFound):
	case isStatus(err, http.StatusConflict):
		// A container from before has it, so the disk had it too.
	default:
		d.o.Logger.Error("can't be removed, and may not be complete, since the power was cut", kind, name, "error", err)
	}
	return nil
}

func (d *Driver) pauseImages(ctx context.Context) ([]string, error) {
	var listed []struct {
		ID string `json:"Id"`
	}
	query := url.Values{"filters": {filters(map[string][]string{"reference": {pauseImage}})}}
	if err := d.c.call(ctx, http.MethodGet, "/images/json", query, nil, &listed); err != nil {
		return nil, err
	}
	var out []string
	for _, l := range listed {
		out = append(out, l.ID)
	}
	return out, nil
}
