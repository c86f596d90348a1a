package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nationtech/fleet/test/controlplane/env"
	"github.com/nationtech/fleet/test/controlplane/internal/gitserver"
	"github.com/nationtech/fleet/test/controlplane/internal/supervise"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
)

// Config is what a run is asked for.
type Config struct {
	Dir        string
	Assets     string
	Components []string
	Options    Options
	// Executable is this program; the Git hook runs it.
	Executable string
	// Timeout is how long everything together may take to become ready.
	Timeout time.Duration
	Out     io.Writer
}

// Plane is a control plane that runs, or is about to.
type Plane struct {
	layout Layout
	config Config
	names  []string
	units  map[string]*supervise.Unit
	client dynamic.Interface // nil without an API server
	git    *gitserver.Server // nil without git
	report *reporter
}

// stopDeadline bounds a stop: the graces of all steps fit into it.
const stopDeadline = 10 * time.Second

// Run starts everything, stays until ctx ends, and stops everything. The same
// directory gives the same ports, certificates and data again.
func Run(ctx context.Context, c Config) error {
	began := time.Now()
	names, err := Select(c.Components)
	if err != nil {
		return err
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o755); err != nil {
		return err
	}
	unlock, err := lockDir(c.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeFile(filepath.Join(c.Dir, env.File)); err != nil {
		return err
	}
	ports, release, err := reservePorts(c.Dir)
	if err != nil {
		return err
	}
	defer release()

	p := &Plane{layout: Layout{Dir: c.Dir, Assets: c.Assets, Ports: ports}, config: c, names: names}
	if err := p.prepare(began); err != nil {
		return err
	}
	defer p.report.close()
	closeControl, err := p.serveControl()
	if err != nil {
		return err
	}
	defer closeControl()

	err = p.start(ctx)
	if err == nil {
		p.report.ready(time.Since(began))
		<-ctx.Done()
	}
	return errors.Join(err, p.stop())
}

// prepare makes the files and the stopped units.
func (p *Plane) prepare(began time.Time) error {
	l := p.layout
	p.report = newReporter(p.config.Out, p.describe(began))
	p.units = map[string]*supervise.Unit{}
	if p.has(APIServer) {
		if err := l.PKI().Ensure(); err != nil {
			return err
		}
		if err := writeKubeconfigs(l); err != nil {
			return err
		}
		var err error
		if p.client, err = DynamicClient(l.Kubeconfig()); err != nil {
			return err
		}
	}
	probes, err := newProber(l, p.has(APIServer))
	if err != nil {
		return err
	}
	for _, proc := range Processes(l, p.config.Options) {
		if !p.has(proc.Name) {
			continue
		}
		for _, dir := range proc.Folders {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		p.add(proc.Name, proc.Port, proc.start(l), probes.get(proc.Health))
	}
	if p.has(Git) {
		if err := p.addGit(probes); err != nil {
			return err
		}
	}
	if p.has(Registry) {
		return p.addRegistry(probes)
	}
	return nil
}

func (p *Plane) has(name string) bool {
	for _, n := range p.names {
		if n == name {
			return true
		}
	}
	return false
}

func (p *Plane) add(name string, port int, start func() (supervise.Instance, error), probe func(context.Context) error) {
	p.units[name] = supervise.NewUnit(supervise.Spec{
		Name: name, Port: port, Log: p.layout.Log(name), Start: start, Probe: probe, Grace: 3 * time.Second,
	}, p.report.notify)
}

func (proc Process) start(l Layout) func() (supervise.Instance, error) {
	command := supervise.Command{
		Path: filepath.Join(l.Assets, proc.Binary), Args: proc.Args, Env: proc.Env, Dir: l.Dir, Log: l.Log(proc.Name),
	}
	return command.Start
}

// start brings everything up, each component as soon as what it needs is
// ready. The first that fails ends the start.
func (p *Plane) start(parent context.Context) error {
	limited, cancel := context.WithTimeout(parent, p.config.Timeout)
	defer cancel()
	group, ctx := errgroup.WithContext(limited)
	ready := map[string]chan struct{}{}
	for _, name := range p.names {
		ready[name] = make(chan struct{})
	}
	crds := make(chan struct{})
	if p.has(Source) || p.has(Kustomize) {
		group.Go(func() error {
			if !await(ctx, ready[APIServer]) {
				return nil
			}
			defer close(crds)
			return installFlux(ctx, p.client, filepath.Join(p.layout.Assets, "crds"))
		})
	}
	for _, name := range p.names {
		group.Go(func() error {
			for _, n := range needs[name] {
				if !await(ctx, ready[n]) {
					return nil // the cause is reported by the one that failed
				}
			}
			if (name == Source || name == Kustomize) && !await(ctx, crds) {
				return nil
			}
			if err := p.units[name].Start(ctx, true); err != nil {
				return startError(err, p.layout.Log(name))
			}
			close(ready[name])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return limited.Err()
}

// stop ends what runs, dependents first. It never leaves a process behind.
func (p *Plane) stop() error {
	p.report.stopping()
	ctx, cancel := context.WithTimeout(context.Background(), stopDeadline)
	defer cancel()
	var errs []error
	for _, step := range StopOrder(p.names) {
		var group errgroup.Group
		for _, name := range step {
			group.Go(func() error { return p.units[name].Stop(ctx) })
		}
		errs = append(errs, group.Wait())
	}
	return errors.Join(errs...)
}

func await(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// lockDir makes sure that one supervisor works in a directory.
func lockDir(dir string) (unlock func(), _ error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(f)
		f.Close()
		return nil, fmt.Errorf("another control plane runs in %s (pid %s): stop it, or use another --dir", dir, holder)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	fmt.Fprint(f, os.Getpid())
	return func() { f.Close() }, nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
