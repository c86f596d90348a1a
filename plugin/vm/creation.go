package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/agent/packaging"
	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/host"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/plugin/token"
	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/cloudinit"
	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/keys"
	"github.com/nationtech/fleet/provision/preflight"
	"github.com/nationtech/fleet/provision/topology"
	"github.com/nationtech/fleet/provision/vm"
)

// creation is a machine in the making.
type creation struct {
	*createOptions
	dirs    dirs.Dirs
	agent   string
	cluster *cli.Cluster
	tried   *vm.Tried
}

func (c *creation) run(ctx context.Context) (Created, error) {
	var err error
	if c.dirs, err = dirs.Find(); err != nil {
		return Created{}, err
	}
	cache, err := c.dirs.Cache()
	if err != nil {
		return Created{}, err
	}
	c.tried = vm.TriedIn(cache)
	kvm, done, err := c.preflight(ctx)
	if err != nil {
		return Created{}, err
	}
	defer done()
	if err := c.askCluster(ctx); err != nil {
		return Created{}, err
	}
	disk, err := c.fetch(ctx)
	if err != nil {
		return Created{}, err
	}
	spec := c.plan.spec
	spec.Image, spec.Pool = disk, vm.PoolOf(kvm.Linux(), c.reach.Pool, c.dirs)
	if err := spec.Check(); err != nil {
		return Created{}, err
	}
	keyDir, err := c.dirs.Keys()
	if err != nil {
		return Created{}, err
	}
	key, err := keys.Ensure(keyDir, "fleet")
	if err != nil {
		return Created{}, err
	}
	join, takeBack, err := c.join(ctx)
	if err != nil {
		return Created{}, err
	}
	made, err := c.boot(ctx, kvm, spec, key, join)
	if err != nil {
		// Nobody will ever use it.
		return Created{}, errors.Join(err, takeBack(context.WithoutCancel(ctx)))
	}
	created := Created{Created: made, Host: kvm.Linux().Host(), SSHKey: key.Path}
	if c.cluster != nil {
		created.Namespace = c.cluster.Namespace
	}
	if c.wait {
		err = c.await(ctx, kvm)
		created.Ready = err == nil
	}
	return created, err
}

// preflight looks at the host, and says all that is missing at once.
func (c *creation) preflight(ctx context.Context) (*topology.KVMHost, func(), error) {
	uri, err := c.reach.URI()
	if err != nil {
		return nil, nil, err
	}
	linux, err := c.reach.HostOf(ctx, uri)
	if err != nil {
		return nil, nil, err
	}
	want := preflight.Want{
		Arch: c.plan.spec.Arch, Setup: c.reach.Setup(linux), OtherNetwork: c.network != vm.DefaultNetwork,
		Image: func() (err error) {
			c.plan.image, err = cloudimage.Find(c.image, c.plan.spec.Arch, c.plan.sum)
			return err
		},
		Agent: func() (err error) {
			c.agent, err = findAgent(c.createOptions.agent, c.plan.spec.Arch, c.agentDirs()...)
			return err
		},
	}
	kvm, facts, err := preflight.Look(ctx, linux, uri, c.reach.Pool, c.tried, want)
	done := func() {
		if kvm != nil {
			kvm.Close()
		}
		linux.Close()
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("look at %s: %w", linux.Host(), err)
	}
	want.Bytes = c.needed()
	findings := preflight.Judge(facts, want)
	if preflight.Worst(findings) == preflight.Bad {
		done()
		return nil, nil, c.missing(findings)
	}
	if err := vm.Free(ctx, kvm, c.reach.Pool, c.plan.spec.Name); err != nil {
		done()
		return nil, nil, &cli.ExitError{Code: cli.CodeBad, Err: err}
	}
	return kvm, done, nil
}

// needed is what a machine takes in the pool at least. Of an image that is yet to be
// downloaded nobody knows the size; when it does not fit, the upload says so before it
// begins.
func (c *creation) needed() uint64 {
	var all uint64
	for _, file := range []string{c.plan.image.Path, c.agent} {
		if info, err := os.Stat(file); err == nil {
			all += uint64(info.Size())
		}
	}
	return all
}

// missing says all that is missing. What only is slow, Create says.
func (c *creation) missing(findings []preflight.Finding) error {
	out := c.env.Streams.ErrOut
	bad := 0
	for _, f := range findings {
		if f.Level != preflight.Bad {
			continue
		}
		bad++
		c.env.Note(host.Tone(f.Level), "%s: %s", f.What, f.Message)
		if f.Remedy != "" {
			fmt.Fprintln(out, "  "+f.Remedy)
		}
	}
	return &cli.ExitError{Code: cli.CodeBad, Err: fmt.Errorf("machine %s can't be made: %s missing", c.plan.spec.Name, screen.Plural(bad, "thing"))}
}

// agentDirs are where the agent's binary is looked for: beside this program, and where a
// person puts those for other architectures.
func (c *creation) agentDirs() []string {
	var all []string
	if own, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(own); err == nil {
			own = real
		}
		all = append(all, filepath.Dir(own))
	}
	if data, err := c.dirs.Data(); err == nil {
		all = append(all, data)
	}
	return all
}

// askCluster connects to the cluster, where there is something to do there, and makes sure
// that the machine can join as what it is to be.
func (c *creation) askCluster(ctx context.Context) error {
	if c.token != "" && !c.wait {
		return nil
	}
	var err error
	if c.cluster, err = c.env.Connect(); err != nil {
		return err
	}
	device := &v1alpha1.Device{}
	key := client.ObjectKey{Namespace: c.cluster.Namespace, Name: c.plan.spec.Name}
	err = c.cluster.Client.Get(ctx, key, device)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get Device %s: %w", key, err)
	case device.Spec.PublicKey != "":
		return &cli.ExitError{Code: cli.CodeBad, Err: fmt.Errorf(
			"the Device %s has a key already, so a new machine can't join as it: take its key away with kubectl fleet devices reset-key %s -n %s, or delete the Device, or choose another name", key, key.Name, key.Namespace)}
	}
	return nil
}

// fetch has the image on this machine.
func (c *creation) fetch(ctx context.Context) (cloudimage.Disk, error) {
	dir, err := c.dirs.CloudImages()
	if err != nil {
		return cloudimage.Disk{}, err
	}
	busy := c.env.Noter(screen.Busy)
	cache := cloudimage.Cache{Dir: dir, Tell: c.env.Noter(screen.Warn), Meter: cloudimage.Lines(busy, time.Now)}
	if out := c.env.Streams.ErrOut; c.env.Style(out).Terminal {
		cache.Meter = cloudimage.Bar(out)
	}
	disk, err := cache.Get(ctx, c.plan.image)
	if err == nil {
		c.env.Note(screen.Good, "image %s: %s, %s", c.plan.image.Name, cloudimage.Bytes(disk.Size), disk.Sum)
	}
	return disk, err
}

// tokenLife is how long the token of a machine is valid after what it is waited for: an
// emulated one takes its time.
const tokenLife = time.Hour

// join is how the machine joins, and what takes that back.
func (c *creation) join(ctx context.Context) (*cloudinit.Join, func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	j := &cloudinit.Join{Server: c.server, Token: c.token, Rootful: c.rootful}
	if c.token != "" {
		return j, nothing, nil
	}
	now := c.env.Now()
	t := &jointoken.Token{
		Namespace: c.cluster.Namespace, Uses: 1, Expires: now.Add(c.timeout + tokenLife).Truncate(time.Second),
		AutoApprove: c.approve == jointoken.ApproveAuto, Labels: c.plan.labels,
	}
	made, warning, err := token.Make(ctx, c.cluster.Client, c.operator, t, now)
	if err != nil {
		return nil, nil, err
	}
	if warning != "" {
		c.env.Note(screen.Warn, "%s", warning)
	}
	j.Token = made.Token
	if j.Server == "" {
		j.Server = made.Operator.Server
	}
	c.env.Note(screen.Good, "join token %s for %s in namespace %s", made.ID, c.plan.spec.Name, t.Namespace)
	return j, func(ctx context.Context) error { return token.Revoke(ctx, c.cluster, made.ID) }, nil
}

// boot makes the machine.
func (c *creation) boot(ctx context.Context, kvm *topology.KVMHost, spec vm.Spec, key keys.Pair, join *cloudinit.Join) (vm.Created, error) {
	userData, err := cloudinit.UserData(cloudinit.Machine{
		Name: spec.Name, AuthorizedKeys: []string{key.Public + " fleet"},
		Password: c.env.Getenv(cloudinit.PasswordVariable), Join: join,
	})
	if err != nil {
		return vm.Created{}, err
	}
	if spec.Seed, err = cloudinit.Seed(userData, cloudinit.MetaData(spec.Name, userData), cloudinit.NetworkConfig(vm.MAC(spec.Name))); err != nil {
		return vm.Created{}, err
	}
	binary, err := os.ReadFile(c.agent)
	if err != nil {
		return vm.Created{}, fmt.Errorf("read the agent: %w", err)
	}
	if spec.Agent, err = cloudinit.AgentMedium(binary, packaging.Files); err != nil {
		return vm.Created{}, err
	}
	c.env.Note(screen.Bold, "making machine %s on %s", spec.Name, kvm.Linux().Host())
	talk := vm.Talk{Doing: c.env.Noter(screen.Busy), Done: c.env.Noter(screen.Good), Warn: c.env.Noter(screen.Warn)}
	made, err := vm.Create(ctx, kvm, spec, vm.Options{Talk: talk, Tried: c.tried})
	if err != nil {
		if ctx.Err() != nil {
			return made, err
		}
		return made, &cli.ExitError{Code: cli.CodeBad, Err: err}
	}
	with := "with KVM"
	if made.Emulated {
		with = "under emulation"
	}
	c.env.Note(screen.Good, "machine %s runs %s", spec.Name, with)
	return made, nil
}
