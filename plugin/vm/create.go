package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
	"github.com/nationtech/fleet/plugin/token"
	"github.com/nationtech/fleet/provision/cloudimage"
	"github.com/nationtech/fleet/provision/cloudinit"
	"github.com/nationtech/fleet/provision/libvirt"
	"github.com/nationtech/fleet/provision/vm"
)

// createOptions are the flags.
type createOptions struct {
	env    *cli.Env
	reach  cli.Reach
	output cli.Output

	image, sha256, sha512 string
	arch, machineType     string
	cpus                  int
	memory, disk          string
	network               string
	emulate               bool
	labels                []string
	approve               string
	token, server, agent  string
	operator              string
	rootful, wait         bool
	timeout               time.Duration
	plan                  plan
}

// Created is a machine that was made.
type Created struct {
	vm.Created `json:",inline"`
	Host       string `json:"host"`
	// Namespace is that of its Device, where that is known, and Ready reports whether it was
	// seen to be ready.
	Namespace string `json:"namespace,omitempty"`
	Ready     bool   `json:"ready"`
	// SSHKey is the private key with which fleet-admin may log in.
	SSHKey string `json:"sshKey"`
}

func newCreateCommand(env *cli.Env) *cobra.Command {
	o := createOptions{env: env}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Boot a machine that joins the fleet as a device",
		Long: `Boot a machine from a cloud image that joins the fleet as the device NAME, and wait until
it is ready.

The image is a name (` + fmt.Sprint(cloudimage.Names()) + `), a URL with its checksum, or a file. It is downloaded once,
and put into the storage pool of the host once; the machine's disk is a copy on write. A
join token for this machine alone is made in the namespace, and the machine installs the
agent with it at its first boot. A person logs in as fleet-admin with an SSH key that is made once, or at
the console with the password of FLEET_VM_ADMIN_PASSWORD if that is set.

KVM is tried and not believed: where a machine shows no sign of life with it, it is
started anew under emulation, and that is said.

Exit codes: 0 it is ready, 1 something is missing or has failed, 2 --timeout is over, 3
there is no answer.`,
		Example: `  # On this machine
  kubectl fleet vm create till-7 -n shops --label site=montreal

  # An ARM machine, emulated, from an image of one's own
  kubectl fleet vm create till-8 -n shops --arch aarch64 --image ./till.qcow2 --agent ./fleet-agent-linux-arm64

  # On another host
  kubectl fleet vm create till-9 --connect qemu+ssh://ada@host7/system`,
		Args: cli.ExactName("machine"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *createOptions) addFlags(cmd *cobra.Command) {
	o.reach.AddURIFlags(cmd, o.env)
	f := cmd.Flags()
	f.StringVar(&o.image, "image", cloudimage.Names()[0], "Image: a name, a URL or a file.")
	f.StringVar(&o.sha256, "sha256", "", "SHA-256 sum that the image has to have.")
	f.StringVar(&o.sha512, "sha512", "", "SHA-512 sum that the image has to have.")
	f.StringVar(&o.arch, "arch", string(libvirt.HostArch()), "Architecture, x86_64 or aarch64; another than the host's is emulated.")
	f.StringVar(&o.machineType, "machine-type", "", "Machine type of QEMU; by default q35, and virt for aarch64.")
	f.IntVar(&o.cpus, "cpus", 2, "Number of processors.")
	f.StringVar(&o.memory, "memory", "2Gi", "Memory.")
	f.StringVar(&o.disk, "disk", "10Gi", "Size of the disk, which takes space as it is written to; 0 is the image's.")
	f.StringVar(&o.network, "network", vm.DefaultNetwork, "Network of libvirt; the default one is made where it is missing.")
	f.BoolVar(&o.emulate, "emulate", false, "Do not try KVM.")
	f.StringSliceVar(&o.labels, "label", nil, "Label of the Device, KEY=VALUE. May be given several times.")
	f.StringVar(&o.approve, "approve", jointoken.ApproveAuto, "Who approves the device: auto, the token that is made for it does; manual, somebody does.")
	f.StringVar(&o.token, "token", "", "Join token to use instead of one that is made for this machine; needs --server.")
	f.StringVar(&o.server, "server", "", "URL of the fleet's server as the machine reaches it; by default what the operator says.")
	f.StringVar(&o.agent, "agent", "", "Binary of the agent for the machine's architecture; by default fleet-agent-linux-ARCH or fleet-agent beside kubectl-fleet.")
	f.BoolVar(&o.rootful, "rootful", false, "Have root's podman run the machine's containers.")
	f.BoolVar(&o.wait, "wait", true, "Wait until the device is ready.")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "How long to wait for it.")
	token.AddOperatorFlag(cmd, o.env, &o.operator)
	o.output.AddFlags(cmd)
	for name, values := range map[string][]string{
		"image": cloudimage.Names(), "arch": {string(libvirt.X86_64), string(libvirt.AArch64)}, "approve": {jointoken.ApproveAuto, jointoken.ApproveManual},
	} {
		directive := cobra.ShellCompDirectiveNoFileComp
		if name == "image" {
			directive = cobra.ShellCompDirectiveDefault
		}
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, directive))
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
}

// plan is what the flags come to.
type plan struct {
	spec   vm.Spec
	image  cloudimage.Image
	sum    cloudimage.Sum
	labels map[string]string
}

// parse reads the flags. All that is wrong with them is in the error.
func (o *createOptions) parse(name string) error {
	var wrong []error
	note := func(flag string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	p := &o.plan
	p.spec = vm.Spec{Name: name, Type: o.machineType, CPUs: o.cpus, Network: vm.Network{Name: o.network}, Emulate: o.emulate}
	if _, err := contracts.ParseDeviceID(name); err != nil {
		wrong = append(wrong, fmt.Errorf("machine %q: its name is its device ID: %w", name, err))
	}
	var err error
	p.spec.Arch, err = libvirt.ParseArch(o.arch)
	note("arch", err)
	memory, err := quantity(o.memory)
	note("memory", err)
	disk, err := quantity(o.disk)
	note("disk", err)
	p.spec.MemoryBytes, p.spec.DiskBytes = memory, uint64(max(0, disk))
	if o.sha256 != "" && o.sha512 != "" {
		wrong = append(wrong, errors.New("--sha256 and --sha512: give one of them"))
	}
	for algorithm, text := range map[string]string{"sha256": o.sha256, "sha512": o.sha512} {
		if text != "" {
			p.sum, err = cloudimage.ParseSum(algorithm, text)
			note(algorithm, err)
		}
	}
	if p.labels, err = token.ParseLabels(o.labels); err != nil {
		wrong = append(wrong, err)
	}
	switch {
	case o.approve != jointoken.ApproveAuto && o.approve != jointoken.ApproveManual:
		wrong = append(wrong, fmt.Errorf("--approve %s: must be %s or %s", o.approve, jointoken.ApproveAuto, jointoken.ApproveManual))
	case o.token != "" && o.server == "":
		wrong = append(wrong, errors.New("--token needs --server: the URL of the fleet that it is of"))
	case o.token != "" && len(o.labels) > 0:
		wrong = append(wrong, errors.New("--label: the device gets the labels of --token; leave it out"))
	}
	if o.token != "" {
		_, err := contracts.ParseJoinToken(o.token)
		note("token", err)
	}
	if o.timeout <= 0 {
		wrong = append(wrong, errors.New("--timeout: must be longer than 0"))
	}
	if len(wrong) == 0 {
		wrong = append(wrong, p.spec.Check())
	}
	return errors.Join(wrong...)
}

// quantity reads a size as Kubernetes writes it.
func quantity(text string) (int64, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return 0, fmt.Errorf("%q is not a size such as 512Mi or 10Gi", text)
	}
	n, whole := q.AsInt64()
	if !whole {
		return 0, fmt.Errorf("%q is not a whole number of bytes", text)
	}
	return n, nil
}

func (o *createOptions) show(printer printers.ResourcePrinter, c Created) error {
	if printer != nil {
		return cli.PrintStruct(printer, "Machine", c, o.env.Streams.Out)
	}
	if _, err := fmt.Fprintf(o.env.Streams.Out, "machine %s created\n", c.Name); err != nil {
		return err
	}
	flag := ""
	if o.reach.Connect != "" && c.Host != localName {
		flag = " --connect " + o.reach.Connect
	}
	o.env.Note(screen.Dim, "Its console: kubectl fleet vm console %s%s; its address: kubectl fleet vm list%s; then ssh -i %s %s@ADDRESS", c.Name, flag, flag, c.SSHKey, cloudinit.AdminUser)
	return nil
}

// localName is what the host is called where it is this machine.
const localName = "this machine"

// run makes the machine: first all that can be wrong is looked at, then what takes long is
// done, and only then is anything made.
func (o *createOptions) run(ctx context.Context, name string) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	if err := o.parse(name); err != nil {
		return err
	}
	c := creation{createOptions: o}
	created, err := c.run(ctx)
	if err != nil {
		return err
	}
	return o.show(printer, created)
}
