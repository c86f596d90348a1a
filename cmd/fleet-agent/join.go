package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/join"
	"github.com/nationtech/fleet/contracts"
)

// exitPending is the exit code when the device waits for approval still.
const exitPending = 3

type exitError struct {
	error
	code int
}

func joinCommand() *cobra.Command {
	var o join.Options
	var tokenFile, device string
	var noWait bool
	c := &cobra.Command{
		Use: "join --server URL --token TOKEN", Short: "Have this device join a fleet", Args: cobra.NoArgs,
		Long: `Has this device join a fleet: it makes the device's key, makes sure that the server's
operator is the one that the token is of, has the device registered, and waits until
somebody approves it. The token comes from "kubectl fleet token create".

A device whose public key is in Git already needs no token, but the fingerprint of the
operator instead, which "kubectl fleet token list" shows.

What the device trusts is kept in its state directory. Joining again changes nothing for
a device that has joined.`,
		Example: `  fleet-agent join --server tls://fleet.example.com:4222 --token fleet-join.shops.x7k2m9qa.…
  fleet-agent join --server tls://fleet.example.com:4222 --token-file - <token
  fleet-agent join --server tls://fleet.example.com:4222 --fingerprint 3f7d…`,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.Load(config.Path())
			if err != nil {
				return err
			}
			if err := rightUser(settings.StateDir); err != nil {
				return err
			}
			if device != "" {
				if settings.Device, err = contracts.ParseDeviceID(device); err != nil {
					return fmt.Errorf("--device: %w", err)
				}
			}
			if o.Server == "" {
				o.Server = settings.NATS.URL
			}
			if err := config.CheckServer(o.Server); err != nil {
				return fmt.Errorf("--server: %w", err)
			}
			if o.Token, err = readToken(o.Token, tokenFile, c.InOrStdin()); err != nil {
				return err
			}
			o.Device, o.SeedFile, o.StateDir, o.Wait = settings.Device, settings.NATS.SeedFile, settings.StateDir, !noWait
			o.Log = slog.New(slog.DiscardHandler)
			o.Tell = func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) }
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			s, err := join.Join(ctx, o)
			if err != nil {
				return err
			}
			if s.Standing == contracts.StandingPending {
				return exitError{errors.New("waiting for approval; fleet-agent run goes on by itself when it comes"), exitPending}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Server, "server", "", "URL of the fleet's server, or several with commas between; default: that of the configuration")
	f.StringVar(&o.Token, "token", "", "join token; other users of this machine may see it while the command runs")
	f.StringVar(&tokenFile, "token-file", "", "file with the join token; - for standard input")
	f.StringVar(&o.Fingerprint, "fingerprint", "", "fingerprint of the fleet's operator, for a device without a token")
	f.StringVar(&device, "device", "", "ID of the device; default: that of the configuration, or the host name")
	f.DurationVar(&o.Patience, "timeout", 2*time.Minute, "how long to try to reach the operator")
	f.BoolVar(&noWait, "no-wait", false, fmt.Sprintf("do not wait for approval, but exit with %d", exitPending))
	c.MarkFlagsMutuallyExclusive("token", "token-file")
	return c
}

func readToken(token, file string, in io.Reader) (string, error) {
	switch file {
	case "":
		return token, nil
	case "-":
		text, err := io.ReadAll(io.LimitReader(in, 4096))
		return strings.TrimSpace(string(text)), err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// rightUser refuses to leave files in the state directory that the agent can't read.
func rightUser(stateDir string) error {
	info, err := os.Stat(stateDir)
	if err != nil {
		return nil // it is to be made
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && os.Geteuid() == 0 && stat.Uid != 0 {
		return fmt.Errorf("%s is not root's: run this as the agent's user, sudo -u fleet-agent fleet-agent join …", stateDir)
	}
	return nil
}
