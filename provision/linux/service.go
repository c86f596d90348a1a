package linux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/score"
)

// ErrNoSystemd tells that a host is not run by systemd.
var ErrNoSystemd = errors.New("there is no systemd: where something else runs the host, such as a container, --no-systemd starts daemons directly")

// HasSystemd reports whether systemd runs the host, as sd_booted(3) finds it out.
func HasSystemd(ctx context.Context, r command.Runner) (bool, error) {
	return command.Succeeds(ctx, r, command.New("test", "-d", "/run/systemd/system"))
}

// Units are units of systemd that have to run, now and after every boot.
type Units []string

// Name says which they are.
func (u Units) Name() string { return "services" }

// started are the words of `systemctl is-enabled` for what runs after a boot by itself, or
// because another unit wants it.
var started = []string{"enabled", "enabled-runtime", "static", "indirect", "alias", "generated", "linked"}

// Interpret enables and starts what is not.
func (u Units) Interpret(ctx context.Context, r command.Runner) (score.Outcome, error) {
	runs, err := HasSystemd(ctx, r)
	if err != nil {
		return score.Outcome{}, err
	}
	if !runs {
		return score.Outcome{}, fmt.Errorf("start %s on %s: %w", strings.Join(u, ", "), r.Host(), ErrNoSystemd)
	}
	var changed []string
	for _, unit := range u {
		enabled, err := word(ctx, r, "is-enabled", unit)
		if err != nil {
			return score.Outcome{}, err
		}
		active, err := word(ctx, r, "is-active", unit)
		if err != nil {
			return score.Outcome{}, err
		}
		if active == "active" && slices.Contains(started, enabled) {
			continue
		}
		if _, err := r.Run(ctx, command.AsRoot("systemctl", "enable", "--now", unit)); err != nil {
			return score.Outcome{}, fmt.Errorf("%w (what it says itself: journalctl -u %s)", err, unit)
		}
		changed = append(changed, unit)
	}
	if len(changed) == 0 {
		return score.Unchanged("%s run", strings.Join(u, ", ")), nil
	}
	return score.Changed("enabled and started %s", strings.Join(changed, ", ")), nil
}

// word is what systemctl says of a unit in one word. Its exit code says the same again.
func word(ctx context.Context, r command.Runner, verb, unit string) (string, error) {
	result, err := r.Run(ctx, command.New("systemctl", verb, unit))
	var exit *command.ExitError
	if err != nil && (!errors.As(err, &exit) || command.NotFound(err)) {
		return "", fmt.Errorf("ask about %s: %w", unit, err)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(result.Stdout), "\n")
	return said, nil
}

// Daemons are programs that put themselves into the background, for a host without
// systemd, such as a container. They run until the host ends.
type Daemons []Daemon

// Daemon is one of them.
type Daemon struct {
	// Args start it, and PIDFile says that it runs.
	Args    []string
	PIDFile string
}

// Name says what they are.
func (d Daemons) Name() string { return "daemons" }

// Interpret starts those that do not run.
func (d Daemons) Interpret(ctx context.Context, r command.Runner) (score.Outcome, error) {
	var began, all []string
	for _, daemon := range d {
		all = append(all, daemon.Args[0])
		// A number of a process that is gone may stay behind.
		const alive = `pid=$(cat "$1" 2>/dev/null) && kill -0 "$pid" 2>/dev/null`
		runs, err := command.Succeeds(ctx, r, command.AsRoot("sh", "-c", alive, "sh", daemon.PIDFile))
		if err != nil {
			return score.Outcome{}, err
		}
		if runs {
			continue
		}
		if _, err := r.Run(ctx, command.AsRoot(daemon.Args...)); err != nil {
			return score.Outcome{}, err
		}
		began = append(began, daemon.Args[0])
	}
	if len(began) == 0 {
		return score.Unchanged("%s run", strings.Join(all, ", ")), nil
	}
	return score.Changed("started %s, until the host ends", strings.Join(began, ", ")), nil
}
