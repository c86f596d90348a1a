package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// skewed is how far a device's clock is off before that is worth a word.
const skewed = 2 * time.Second

type pingOptions struct {
	count    int
	interval time.Duration
}

// NewPingCommand is `kubectl fleet ping`.
func NewPingCommand(env *cli.Env) *cobra.Command {
	o := &pingOptions{}
	cmd := &cobra.Command{
		Use:   "ping DEVICE...",
		Short: "Ask devices whether they are there",
		Long: `Ask devices whether they are there. The time is that from the operator over NATS to
the agent and back. The exit code is 1 when a device has not answered.`,
		Example: `  kubectl fleet ping till-7 till-8

  # Until Ctrl-C
  kubectl fleet ping till-7 --count 0`,
		Args:              atLeastOne("device"),
		ValidArgsFunction: env.CompleteDevices,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), env, args)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.count, "count", "c", 1, "How often; 0 is until Ctrl-C.")
	f.DurationVarP(&o.interval, "interval", "i", time.Second, "How long to wait in between.")
	return cmd
}

func (o *pingOptions) run(ctx context.Context, env *cli.Env, devices []string) error {
	switch {
	case o.count < 0:
		return fmt.Errorf("--count %d: must be 0 or more", o.count)
	case o.interval < 100*time.Millisecond:
		return fmt.Errorf("--interval %s: must be at least 100ms", o.interval)
	}
	a, err := connect(env)
	if err != nil {
		return err
	}
	style := env.Style(env.Streams.Out)
	var all sync.WaitGroup
	var mu sync.Mutex
	silent := false
	for _, device := range devices {
		all.Go(func() {
			ticker := time.NewTicker(o.interval)
			defer ticker.Stop()
			for n := 1; ; n++ {
				var answer live.DevicePing
				err := a.do(ctx, a.subresource(a.rest.Get(), "devices", device, "ping"), &answer)
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				if err != nil {
					silent = true
					fmt.Fprintf(env.Streams.Out, "%s %s: %s\n", style.Mark(screen.Bad), device, screen.Safe(err.Error()))
				} else {
					fmt.Fprintf(env.Streams.Out, "%s %s: %s\n", style.Mark(screen.Good), device, pong(&answer))
				}
				mu.Unlock()
				if n == o.count {
					return
				}
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case silent:
		return cli.Exit(cli.CodeBad)
	}
	return nil
}

// pong is what a device has answered, in a line.
func pong(p *live.DevicePing) string {
	text := fmt.Sprintf("%s  agent %s  up %s", p.RoundTrip.Round(100*time.Microsecond), screen.Safe(p.AgentVersion),
		duration.HumanDuration(time.Duration(p.UptimeSeconds)*time.Second))
	// The device looked at its clock at some time of the round trip.
	if off := p.DeviceTime.Sub(p.Time.Time); off < -skewed-p.RoundTrip.Duration || off > skewed {
		text += fmt.Sprintf("  its clock is off by %s", off.Round(time.Second))
	}
	return text
}
