package token

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/screen"
)

// A token that nobody has used within a year is forgotten, not wanted.
const minTTL, maxTTL = time.Minute, 365 * 24 * time.Hour

type createOptions struct {
	env      *cli.Env
	labels   []string
	ttl      time.Duration
	uses     int
	approve  string
	operator string
	output   cli.Output
}

// Created is a token that has just been made.
type Created struct {
	// Token is its text, which nobody can read again.
	Token    string `json:"token"`
	Kept     `json:",inline"`
	Operator Operator `json:"operator"`
}

func newCreateCommand(env *cli.Env) *cobra.Command {
	o := createOptions{env: env}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token with which devices join",
		Long: `Make a token with which devices join the namespace. It is printed on stdout, this once;
stderr says what to run on the device.

Each device that joins gets the labels of --label, and waits until somebody approves
it: kubectl fleet approve. With --approve auto it takes part at once, so that whoever
has the token is in the fleet: give such a token few --uses and a short --ttl.`,
		Example: `  # For one device, for a day
  kubectl fleet token create -n shops --label site=montreal

  # For a pallet of fifty, that are approved when they come
  kubectl fleet token create -n shops --label site=montreal --uses 50 --approve auto --ttl 72h

  # For a script
  kubectl fleet token create -n shops -o jsonpath={.token}`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.labels, "label", nil, "Label of the devices that join, KEY=VALUE. May be given several times.")
	f.DurationVar(&o.ttl, "ttl", 24*time.Hour, "How long the token is valid, such as 90m or 72h; a year at most.")
	f.IntVar(&o.uses, "uses", 1, "How many devices may join with it; 0 for any number.")
	f.StringVar(&o.approve, "approve", jointoken.ApproveManual, "Who approves a device that has joined: manual, somebody does; auto, the token does.")
	_ = cmd.RegisterFlagCompletionFunc("approve", cobra.FixedCompletions([]string{jointoken.ApproveManual, jointoken.ApproveAuto}, cobra.ShellCompDirectiveNoFileComp))
	AddOperatorFlag(cmd, env, &o.operator)
	o.output.AddFlags(cmd)
	return cmd
}

// kept is the token that the flags ask for, without its secret.
func (o *createOptions) kept(now time.Time) (*jointoken.Token, error) {
	t := &jointoken.Token{Uses: o.uses, Expires: now.Add(o.ttl).Truncate(time.Second)}
	var wrong []error
	if o.ttl < minTTL || o.ttl > maxTTL {
		wrong = append(wrong, fmt.Errorf("--ttl %s: must be from %s to a year (%s)", o.ttl, screen.Duration(minTTL), screen.Duration(maxTTL)))
	}
	if o.uses < 0 {
		wrong = append(wrong, fmt.Errorf("--uses %d: must be a number of devices, or 0 for any number", o.uses))
	}
	switch o.approve {
	case jointoken.ApproveAuto:
		t.AutoApprove = true
	case jointoken.ApproveManual:
	default:
		wrong = append(wrong, fmt.Errorf("--approve %s: must be %s or %s", o.approve, jointoken.ApproveAuto, jointoken.ApproveManual))
	}
	var err error
	if t.Labels, err = ParseLabels(o.labels); err != nil {
		wrong = append(wrong, err)
	}
	return t, errors.Join(wrong...)
}

// ParseLabels reads labels of --label, KEY=VALUE.
func ParseLabels(pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			return nil, fmt.Errorf("--label %s: must be KEY=VALUE", pair)
		}
		if was, twice := labels[key]; twice && was != value {
			return nil, fmt.Errorf("--label %s: it is %s already, and a label has one value", pair, was)
		}
		labels[key] = value
	}
	var wrong []error
	for _, err := range metav1validation.ValidateLabels(labels, field.NewPath("--label")) {
		wrong = append(wrong, fmt.Errorf("--label %v: %s", err.BadValue, err.Detail))
	}
	return labels, errors.Join(wrong...)
}

func (o *createOptions) run(ctx context.Context) error {
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	t, err := o.kept(o.env.Now())
	if err != nil {
		return err
	}
	cluster, err := o.env.Connect()
	if err != nil {
		return err
	}
	t.Namespace = cluster.Namespace
	created, warning, err := Make(ctx, cluster.Client, o.operator, t, o.env.Now())
	if err != nil {
		return err
	}
	if warning != "" {
		says := o.env.Streams.ErrOut
		o.env.Style(says).Note(says, screen.Warn, warning)
	}
	return o.show(printer, created)
}

// Make makes a token and keeps it in its namespace. The warning, if there is one, says why
// nobody can join with it yet.
func Make(ctx context.Context, c client.Client, operatorNamespace string, t *jointoken.Token, now time.Time) (created Created, warning string, err error) {
	// First of all: a token that names no operator is of no use to anybody.
	operator, err := readOperator(ctx, c, operatorNamespace)
	if err != nil {
		return Created{}, "", err
	}
	secret := contracts.NewJoinSecret()
	t.Hash = jointoken.HashOf(secret)
	if err := keep(ctx, c, t); err != nil {
		return Created{}, "", fmt.Errorf("make a join token in namespace %s: %w", t.Namespace, err)
	}
	text := contracts.JoinToken{Namespace: t.Namespace, ID: t.ID, Secret: secret, Fingerprint: operator.Fingerprint}.String()
	return Created{Token: text, Kept: keptOf(t, now), Operator: operator}, unreadable(ctx, c, operatorNamespace, t.Namespace), nil
}

// attempts is how often an ID is tried that another token has, of 2^40 that there are.
const attempts = 3

func keep(ctx context.Context, c client.Client, t *jointoken.Token) error {
	for attempt := 1; ; attempt++ {
		t.ID = contracts.NewJoinSecret()[:8]
		secret := t.Secret()
		err := c.Create(ctx, secret, flux.FieldOwner)
		if apierrors.IsAlreadyExists(err) && attempt < attempts {
			continue
		}
		t.Created = secret.CreationTimestamp.Time
		return err
	}
}

func (o *createOptions) show(printer printers.ResourcePrinter, c Created) error {
	out := o.env.Streams.Out
	if printer != nil {
		return cli.PrintStruct(printer, "JoinToken", c, out)
	}
	if _, err := fmt.Fprintln(out, c.Token); err != nil {
		return err
	}
	says := o.env.Streams.ErrOut
	style := o.env.Style(says)
	devices, approval := "for any number of devices", "which wait until somebody approves them"
	switch {
	case c.Uses == 1 && c.Approve == jointoken.ApproveAuto:
		devices, approval = "for one device", "which is approved at once"
	case c.Uses == 1:
		devices, approval = "for one device", "which waits until somebody approves it"
	case c.Uses > 1:
		devices = "for " + screen.Plural(c.Uses, "device")
	}
	if c.Uses != 1 && c.Approve == jointoken.ApproveAuto {
		approval = "which are approved at once"
	}
	style.Note(says, screen.Good, fmt.Sprintf("Token %s of namespace %s, %s, %s, valid until %s. It is shown this once.",
		c.ID, c.Namespace, devices, approval, c.Expires.UTC().Format(time.RFC3339)))
	if c.Uses == 0 && c.Approve == jointoken.ApproveAuto {
		style.Note(says, screen.Warn, "Whoever has it is in the fleet, with any number of devices. To take it back: kubectl fleet token revoke "+c.ID+" -n "+c.Namespace)
	}
	text := "TOKEN"
	if style.Terminal {
		text = c.Token
	}
	style.Note(says, screen.Bold, "On the device:")
	_, err := fmt.Fprintf(says, "    sudo -u fleet-agent fleet-agent join --server %s --token %s\n", screen.Safe(c.Operator.Server), text)
	if c.Approve == jointoken.ApproveManual {
		style.Note(says, screen.Bold, "Then, here: kubectl fleet approve DEVICE -n "+c.Namespace)
	}
	return err
}
