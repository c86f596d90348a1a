package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nationtech/fleet/test/env"
)

type demo struct {
	dir, bin, manifests string
	// machine has one virtual machine as the device, and not three with a podman each.
	machine  bool
	progress *env.Progress
	fleet    *env.Fleet
}

// pushes is how many deliveries are timed. On a machine, which may be emulated, each takes
// its time.
func (d *demo) pushes() int {
	if d.machine {
		return 1
	}
	return 5
}

// all is who serves when a delivery is complete.
func (d *demo) all() string {
	if d.machine {
		return "the machine serves"
	}
	return "all three devices serve"
}

// step is one part of bringing up.
type step struct {
	name string
	do   func() error
}

// up is the whole demo: bring up, deliver, show, and remove again unless it is
// kept.
func (d *demo) up(ctx context.Context, keep bool) (err error) {
	unlock, err := d.claim()
	if err != nil {
		return err
	}
	defer unlock()
	defer func() {
		failed := err != nil
		if failed && ctx.Err() != nil {
			// Being stopped is no failure, in whatever words the step says that it was
			// cut off.
			failed, err = false, ctx.Err()
		}
		switch left := d.remove(failed); {
		case left != nil && failed:
			err = errors.Join(err, left)
		case left != nil:
			err = left
		}
	}()
	if err := d.bringUp(ctx); err != nil {
		return err
	}
	if err := d.deliver(ctx); err != nil {
		return err
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	if !keep {
		d.progress.Say("\nTry next: `make %s KEEP=1` leaves it running, so that you can push changes yourself.", d.target())
		return nil
	}
	d.sayWhatNext()
	<-ctx.Done()
	return nil
}

func (d *demo) bringUp(ctx context.Context) error {
	bin, err := filepath.Abs(d.bin)
	if err != nil {
		return err
	}
	if d.machine {
		return d.bringUpMachine(ctx, bin)
	}
	d.fleet, err = env.New(env.Options{Dir: d.dir, Bin: bin}, "shop-1", "shop-2", "shop-3")
	if err != nil {
		return err
	}
	// Somebody who tries the demo will want a look inside.
	d.fleet.Devices[0].Commands = map[string]string{"exec": "allow"}
	var image string
	err = d.steps(
		step{"control plane: etcd, kube-apiserver, Flux, NATS, Git, registry", func() error { return d.fleet.StartControlPlane(ctx) }},
		step{"keys, certificates, and the fleet operator with its own rights and no more", func() error { return d.fleet.InstallOperator(ctx, d.manifests) }},
		step{d.images(), func() (err error) {
			image, err = d.pushImages(ctx)
			return err
		}},
		step{"kubectl fleet repo init", func() error { return d.fleet.Scaffold(ctx, image) }},
		step{"git push", func() error { return d.begin(ctx) }},
		step{"Flux syncs the repository: three devices are awaited", func() error { return d.fleet.Sync(ctx) }},
		step{"a join token; three devices, each with a podman and an agent of its own user, join with it", func() error { return d.fleet.JoinDevices(ctx) }},
		step{"all three devices serve v1", func() error { return d.fleet.AllServe(ctx, version(1)) }},
	)
	if err != nil {
		return err
	}
	if why := d.fleet.Rootful; why != nil {
		d.progress.Say("The devices' podmans and agents run as root here: %v", why)
	}
	return nil
}

func (d *demo) steps(all ...step) error {
	d.progress.Say("Bringing up a fleet in %s (logs in %s)\n", d.dir, filepath.Join(d.dir, "logs"))
	for _, s := range all {
		if err := d.progress.Step(s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) images() string { return fmt.Sprintf("image hello:v1 to v%d", d.pushes()+1) }

// pushImages pushes every version of hello to the registry, and returns the first.
func (d *demo) pushImages(ctx context.Context) (image string, err error) {
	for v := d.pushes() + 1; v >= 1; v-- {
		if image, err = d.fleet.PushHello(ctx, version(v)); err != nil {
			return "", err
		}
	}
	return image, nil
}

func (d *demo) begin(ctx context.Context) error {
	_, err := d.fleet.Repository.Push(ctx, "Begin the fleet")
	return err
}

func version(n int) string { return fmt.Sprintf("v%d", n) }

// deliver pushes new versions and prints how long each hop took.
func (d *demo) deliver(ctx context.Context) error {
	d.progress.Say("\nNow `git push` a new version of hello, %s:\n", times(d.pushes()))
	var totals []time.Duration
	for v := 2; v <= d.pushes()+1; v++ {
		delivery, err := d.fleet.Deliver(ctx, version(v-1), version(v))
		if err != nil {
			return fmt.Errorf("roll out hello %s: %w", version(v), err)
		}
		totals = append(totals, delivery.Total)
		d.progress.Say("  %s  commit %.10s", version(v), delivery.Commit)
		for _, hop := range delivery.Hops {
			d.progress.Say("    %8s  %s", seconds(hop.After), hop.Name)
		}
	}
	slices.Sort(totals)
	if len(totals) == 1 {
		d.progress.Say("\nFrom git push until %s the new version: %s.", d.all(), seconds(totals[0]))
		return nil
	}
	d.progress.Say("\nFrom git push until %s the new version: median %s of %d pushes, fastest %s, slowest %s.",
		d.all(), seconds(totals[len(totals)/2]), len(totals), seconds(totals[0]), seconds(totals[len(totals)-1]))
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func (d *demo) show(ctx context.Context) error {
	out, err := d.fleet.Kubectl(ctx, "status", "--namespace", env.Namespace)
	if err != nil {
		return err
	}
	d.progress.Say("\n$ kubectl fleet status -n %s\n%s", env.Namespace, strings.TrimRight(out, "\n"))
	return nil
}

func (d *demo) sayWhatNext() {
	if d.machine {
		d.sayWhatNextWithMachine()
		return
	}
	d.progress.Say(`
%s
Look:    kubectl fleet status -n %[2]s --watch
         kubectl fleet top -n %[2]s
         kubectl fleet logs -n %[2]s shop-1.hello --follow; curl %[3]s
         kubectl fleet exec -n %[2]s -it shop-1.hello -- /hello talk
%[4]s
Break:   kill an agent, the operator, a container; it comes back to what Git says
End:     make demo-down`,
		d.shell(), env.Namespace, d.fleet.Devices[0].HelloURL(), d.change())
}

// shell is what to type first.
func (d *demo) shell() string {
	shell := ""
	if os.Getenv("SUDO_USER") != "" {
		shell = "\n  sudo -s # the demo's files are root's"
	}
	return fmt.Sprintf(`%s%s
  export KUBECONFIG=%s
  export PATH=%s:$PATH
`, readyLine, shell, d.fleet.ControlPlane.Kubeconfig, d.fleet.Bin)
}

// change is how to change what runs.
func (d *demo) change() string {
	return fmt.Sprintf(`Change:  cd %s
         edit %s/kustomization.yaml (newTag: v1 to v%d are there), git commit -am "Try a version", git push`,
		d.fleet.Repository.Dir, env.Overlay, d.pushes()+1)
}

// remove stops the fleet and removes its folder, unless its logs are still needed
// to see what went wrong.
func (d *demo) remove(failed bool) error {
	if d.fleet == nil {
		return os.RemoveAll(d.dir) // nothing has run that could have a log
	}
	var err error
	step := d.progress.Step("stop and remove everything", func() error {
		err = d.fleet.Close()
		return err
	})
	if failed {
		d.progress.Say("The logs stay in %s; `make demo-down` removes them.", filepath.Join(d.dir, "logs"))
		return step
	}
	return errors.Join(step, d.removeFiles())
}

// removeFiles removes the folder, and the log of a demo in the background.
func (d *demo) removeFiles() error {
	return errors.Join(removeIfThere(d.log()), os.RemoveAll(d.dir))
}

func removeIfThere(file string) error {
	if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// log is where a demo in the background writes what it prints: beside the folder,
// which it makes anew.
func (d *demo) log() string { return filepath.Clean(d.dir) + ".log" }

// claim makes the folder and writes who owns it. Only one demo runs in a folder.
func (d *demo) claim() (func(), error) {
	if pid := d.owner(); pid != 0 {
		return nil, fmt.Errorf("a demo runs already in %s (process %d); `make demo-down` ends it", d.dir, pid)
	}
	if err := d.sweep(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.pidFile(), []byte(fmt.Sprint(os.Getpid())), 0o600); err != nil {
		return nil, err
	}
	return func() { _ = os.Remove(d.pidFile()) }, nil // gone with the folder, as a rule
}

func (d *demo) pidFile() string { return filepath.Join(d.dir, "pid") }

// owner is the process that runs a demo in the folder, or 0.
func (d *demo) owner() int {
	raw, err := os.ReadFile(d.pidFile())
	if err != nil {
		return 0
	}
	var pid int
	if _, err := fmt.Sscan(string(raw), &pid); err != nil || pid <= 0 {
		return 0
	}
	if !running(pid) {
		return 0
	}
	return pid
}

// running reports whether the process is a demo: another one may have got the
// number since.
func running(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), "demo\x00up")
}

// down ends a demo that runs in the background, and removes what one that was
// killed has left.
func (d *demo) down(ctx context.Context) error {
	if pid := d.owner(); pid != 0 {
		err := d.progress.Step("stop the demo", func() error {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				return err
			}
			return env.Until(ctx, time.Minute, "the demo ended", func(context.Context) error {
				if running(pid) {
					return fmt.Errorf("process %d still runs", pid)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	if err := d.sweep(); err != nil {
		return err
	}
	if err := d.removeFiles(); err != nil {
		return err
	}
	d.progress.Say("Nothing of the demo is left. What was downloaded and built stays in the caches that `make help` names.")
	return nil
}

// sweep removes what a demo that was killed has left: its processes died with it,
// its containers and files did not.
func (d *demo) sweep() error {
	if err := env.Sweep(d.dir); err != nil {
		return err
	}
	return os.RemoveAll(d.dir)
}
