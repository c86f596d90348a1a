package linux

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nationtech/fleet/provision/command"
)

// apt installs packages of Debian and what is made of it.
type apt struct{}

// Name is the name of the manager.
func (apt) Name() string { return "apt" }

// Missing asks dpkg, which ends with 1 when it does not know one of the packages.
func (apt) Missing(ctx context.Context, r command.Runner, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	result, err := r.Run(ctx, command.New(append([]string{"dpkg-query", "-W", "-f", `${db:Status-Status} ${Package}\n`}, names...)...))
	var exit *command.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.Result.Code != 1) {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	return withoutInstalled(names, result.Stdout), nil
}

// withoutInstalled reads lines of a status and a name. A package that was removed and not
// purged has a line too.
func withoutInstalled(names []string, output string) []string {
	installed := map[string]bool{}
	for line := range strings.Lines(output) {
		if status, name, _ := strings.Cut(strings.TrimSpace(line), " "); status == "installed" {
			installed[name] = true
		}
	}
	var missing []string
	for _, name := range names {
		if !installed[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// lockPatience is how many seconds to wait for another apt, such as the one that a fresh
// cloud machine runs by itself.
const lockPatience = "300"

// Install installs packages without those that they only recommend: on a host for machines
// these are a desktop's.
func (apt) Install(ctx context.Context, r command.Runner, names []string) error {
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	lock := "DPkg::Lock::Timeout=" + lockPatience
	if _, err := r.Run(ctx, command.Command{Args: []string{"apt-get", "-o", lock, "update", "-q"}, Env: env, Root: true}); err != nil {
		return err
	}
	args := append([]string{"apt-get", "-o", lock, "install", "-qy", "--no-install-recommends"}, names...)
	_, err := r.Run(ctx, command.Command{Args: args, Env: env, Root: true})
	return err
}
