package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/ptr"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// maxLogs is how many logs are read at once, at most.
const maxLogs = 50

type logsOptions struct {
	container                    string
	follow, previous, timestamps bool
	tail                         int64
	since                        time.Duration
	sinceTime                    string
	prefix                       bool
	selector                     string
	deployment                   string
}

// NewLogsCommand is `kubectl fleet logs`.
func NewLogsCommand(env *cli.Env) *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:     "logs DEVICE[.DEPLOYMENT]...",
		Aliases: []string{"log"},
		Short:   "Print the log of a container on a device",
		Long: `Print the log of a container on a device, as the device has it.

` + targetHelp + `
Of several placements, each line has the name of its own before it. On a terminal,
control characters other than colours are shown as ^[ and the like.`,
		Example: `  # What the signage of a till has said last, and what it says from now on
  kubectl fleet logs till-7.signage --tail 20 -f

  # Why its container ended before it was started again
  kubectl fleet logs till-7.signage -p

  # The last five minutes of every till of a site
  kubectl fleet logs -l site=montreal --deployment signage --since 5m`,
		ValidArgsFunction: env.CompletePlacements,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.container, "container", "c", "", "Name of the container; not needed where there is but one.")
	f.BoolVarP(&o.follow, "follow", "f", false, "Go on with what is written until the container ends.")
	f.BoolVarP(&o.previous, "previous", "p", false, "The log of the run before this one.")
	f.BoolVar(&o.timestamps, "timestamps", false, "Begin each line with its time.")
	f.Int64Var(&o.tail, "tail", -1, "How many lines of the end; -1 is all that there are.")
	f.DurationVar(&o.since, "since", 0, "Only what is newer than this, such as 5s, 2m or 3h.")
	f.StringVar(&o.sinceTime, "since-time", "", "Only what is newer than this time (RFC3339), by the device's clock.")
	f.BoolVar(&o.prefix, "prefix", false, "Begin each line with the placement also where there is but one.")
	f.StringVarP(&o.selector, "selector", "l", "", "Of every device with these labels; wants --deployment.")
	f.StringVar(&o.deployment, "deployment", "", "With --selector, the Deployment whose log it is.")
	_ = cmd.RegisterFlagCompletionFunc("deployment", env.CompleteDeployments)
	return cmd
}

func (o *logsOptions) validate(args []string) (*live.PlacementLogOptions, error) {
	switch {
	case len(args) == 0 && o.selector == "":
		return nil, errors.New("the name of a device or placement is missing: kubectl fleet logs DEVICE[.DEPLOYMENT]")
	case len(args) > 0 && (o.selector != "" || o.deployment != ""):
		return nil, errors.New("give either placements or --selector and --deployment, not both")
	case o.selector != "" && o.deployment == "":
		return nil, errors.New("--selector chooses devices; say with --deployment whose log of them it is")
	case o.since != 0 && o.sinceTime != "":
		return nil, errors.New("--since and --since-time cannot be used together")
	case o.since < 0:
		return nil, fmt.Errorf("--since %s: an age cannot be negative", o.since)
	case o.follow && o.previous:
		return nil, errors.New("--follow cannot be used with --previous: the run before this one has ended")
	case o.tail < -1:
		return nil, fmt.Errorf("--tail %d: must be -1 or more", o.tail)
	}
	out := &live.PlacementLogOptions{Container: o.container, Follow: o.follow, Previous: o.previous, Timestamps: o.timestamps}
	if o.tail >= 0 {
		out.TailLines = &o.tail
	}
	if o.since > 0 {
		// Seconds are the API's; less than one would be all.
		out.SinceSeconds = ptr.To(int64((o.since + time.Second - 1) / time.Second))
	}
	if o.sinceTime != "" {
		t, err := time.Parse(time.RFC3339, o.sinceTime)
		if err != nil {
			return nil, fmt.Errorf("--since-time: %w", err)
		}
		out.SinceTime = &metav1.Time{Time: t}
	}
	return out, nil
}

func (o *logsOptions) run(ctx context.Context, env *cli.Env, args []string) error {
	options, err := o.validate(args)
	if err != nil {
		return err
	}
	a, err := connect(env)
	if err != nil {
		return err
	}
	names, err := o.placements(ctx, a, args)
	if err != nil {
		return err
	}
	out := &lines{out: env.Streams.Out}
	if env.Style(env.Streams.Out).Terminal {
		out.out = screen.NewFilter(env.Streams.Out)
	}
	errs := make([]error, len(names))
	var logs sync.WaitGroup
	for i, name := range names {
		logs.Go(func() {
			prefix := ""
			if o.prefix || len(names) > 1 {
				prefix = "[" + name + "] "
			}
			stream, err := a.stream(ctx, a.with(a.subresource(a.rest.Get(), "placements", name, "log"), options))
			if err == nil {
				err = out.copy(stream, prefix)
				err = errors.Join(err, stream.Close())
			}
			if err != nil && ctx.Err() == nil {
				errs[i] = fmt.Errorf("log of %s: %w", name, err)
			}
		})
	}
	logs.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(errs...)
}

// placements are those whose logs are wanted.
func (o *logsOptions) placements(ctx context.Context, a *api, args []string) ([]string, error) {
	var names []string
	for _, arg := range args {
		name, err := a.placement(ctx, arg)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if o.selector != "" {
		options, err := cli.Scope{Namespace: a.Namespace, Selector: o.selector}.ListOptions()
		if err != nil {
			return nil, err
		}
		options.FieldSelector = fields.OneTermEqualSelector("spec.deployment", o.deployment)
		options.Limit = maxLogs + 1
		var list live.PlacementList
		if err := a.Client.List(ctx, &list, &options); err != nil {
			return nil, fmt.Errorf("find the placements of %s: %w", o.deployment, err)
		}
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("no device with labels %s runs %s in namespace %s", o.selector, o.deployment, a.Namespace)
		}
	}
	if len(names) > maxLogs {
		return nil, fmt.Errorf("more than %d logs at once: choose fewer", maxLogs)
	}
	return names, nil
}

// lines writes several logs, each line in one piece.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

// longest is how much of a line is kept until it is complete. What is longer is
// written in pieces.
const longest = 64 << 10

// copy writes a log, with a prefix before each line.
func (l *lines) copy(from io.Reader, prefix string) error {
	if prefix == "" {
		_, err := io.Copy(l, from)
		return err
	}
	r := bufio.NewReaderSize(from, longest)
	begins := true
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			whole := err == nil
			if begins {
				line = append([]byte(prefix), line...)
			}
			begins = whole
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				// The next log shall not go on in the same line.
				line = append(line[:len(line):len(line)], '\n')
			}
			if _, err := l.Write(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// Write writes from one log at a time.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}
