package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/provision/dirs"
	"github.com/nationtech/fleet/provision/keys"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/ssh"
	"github.com/nationtech/fleet/provision/topology"
)

// Reach is how a command reaches the host that machines run on. No cluster is needed for
// that.
type Reach struct {
	env     *Env
	Connect string
	// Pool is the storage pool of machines' disks.
	Pool     string
	identity string
	accept   string
}

// Ways to write the host: as libvirt does, or as a host that has no libvirt yet.
const (
	localURI  = "qemu:///system"
	uriUsage  = "Host of the machines: qemu:///system is this one, qemu+ssh://USER@HOST/system another."
	hostUsage = "Host to prepare: local is this one, ssh://USER@HOST[:PORT] another."
)

// AddURIFlags adds the flags of a command for a host whose libvirt runs.
func (r *Reach) AddURIFlags(cmd *cobra.Command, env *Env) {
	r.add(cmd, env, localURI, uriUsage)
	_ = cmd.RegisterFlagCompletionFunc("connect", cobra.FixedCompletions([]string{localURI, "qemu+ssh://"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// AddHostFlags adds the flags of a command for a host as it comes.
func (r *Reach) AddHostFlags(cmd *cobra.Command, env *Env) {
	r.add(cmd, env, topology.LocalWord, hostUsage)
	_ = cmd.RegisterFlagCompletionFunc("connect", cobra.FixedCompletions([]string{topology.LocalWord, "ssh://"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

func (r *Reach) add(cmd *cobra.Command, env *Env, value, usage string) {
	r.env = env
	f := cmd.Flags()
	f.StringVar(&r.Connect, "connect", value, usage)
	f.StringVar(&r.Pool, "pool", libvirt.PoolName(), "Storage pool of libvirt for the machines' disks; HARMONY_FLEET_POOL_NAME changes the default.")
	f.StringVar(&r.identity, "identity", "", "Private SSH key for the host; by default those of ~/.ssh, of the SSH agent, and fleet's own.")
	f.StringVar(&r.accept, "accept-host-key", "", "Fingerprint of the host's SSH key, SHA256:…, that you have compared with what the host shows. It is remembered.")
}

// Linux reaches the host that --connect says as a host that nothing is known of.
func (r *Reach) Linux(ctx context.Context) (*topology.LinuxHost, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	host, err := topology.Reach(ctx, r.Connect, o)
	if err != nil {
		return nil, fmt.Errorf("--connect: %w", err)
	}
	return host, nil
}

// URI is what --connect says, where it is a libvirt URI.
func (r *Reach) URI() (libvirt.URI, error) {
	uri, err := libvirt.ParseURI(r.Connect)
	if err != nil {
		return uri, fmt.Errorf("--connect: %w", err)
	}
	return uri, nil
}

// HostOf reaches the host of a libvirt URI.
func (r *Reach) HostOf(ctx context.Context, uri libvirt.URI) (*topology.LinuxHost, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	host, err := topology.HostOf(ctx, uri, o)
	if err != nil {
		return nil, fmt.Errorf("--connect: %w", err)
	}
	return host, nil
}

// KVM reaches the host that --connect says, whose libvirt runs. done ends both
// connections.
func (r *Reach) KVM(ctx context.Context) (host *topology.KVMHost, done func(), err error) {
	uri, err := r.URI()
	if err != nil {
		return nil, nil, err
	}
	linux, err := r.HostOf(ctx, uri)
	if err != nil {
		return nil, nil, err
	}
	kvm, err := linux.ConnectKVM(ctx, uri)
	if err != nil {
		linux.Close()
		return nil, nil, fmt.Errorf("%w; %s prepares a host", err, r.Setup(linux))
	}
	return kvm, func() { kvm.Close(); linux.Close() }, nil
}

// Setup is the command that prepares a host.
func (r *Reach) Setup(host *topology.LinuxHost) string {
	if host.IsLocal() {
		return "kubectl fleet host setup"
	}
	uri, err := host.URI()
	if err != nil {
		return "kubectl fleet host setup"
	}
	user, name, port := uri.SSH()
	return "kubectl fleet host setup --connect " + ssh.Address{User: user, Name: name, Port: port}.String()
}

func (r *Reach) options() (ssh.Options, error) {
	o := ssh.Options{KnownHosts: ssh.MyKnownHosts(), Accept: r.accept}
	d, err := dirs.Find()
	if err != nil {
		return o, err
	}
	dir, err := d.Keys()
	if err != nil {
		return o, err
	}
	o.Own = filepath.Join(dir, "known_hosts")
	files := []string{filepath.Join(dir, keys.Name)}
	if r.identity != "" {
		if _, err := keys.Read(r.identity); err != nil {
			return o, fmt.Errorf("--identity: %w", err)
		}
		files = append([]string{r.identity}, files...)
	}
	o.Identities = ssh.MyIdentities(r.env.Getenv, files...)
	return o, nil
}

// Note says something to the person behind the mark of a tone, on stderr.
func (e *Env) Note(tone screen.Tone, format string, args ...any) {
	out := e.Streams.ErrOut
	e.Style(out).Note(out, tone, fmt.Sprintf(format, args...))
}

// Noter is Note for one tone.
func (e *Env) Noter(tone screen.Tone) func(format string, args ...any) {
	return func(format string, args ...any) { e.Note(tone, format, args...) }
}
