package linux

import (
	"context"
	"fmt"

	"github.com/nationtech/fleet/provision/command"
)

// dnf installs packages of Fedora, Red Hat's and what is made of them.
type dnf struct{}

// Name is the name of the manager.
func (dnf) Name() string { return "dnf" }

// Missing asks rpm for each, whose exit code is the same in every language and version. A
// package counts as there when another provides it.
func (dnf) Missing(ctx context.Context, r command.Runner, names []string) ([]string, error) {
	var missing []string
	for _, name := range names {
		installed, err := command.Succeeds(ctx, r, command.New("rpm", "-q", "--whatprovides", name))
		if err != nil {
			return nil, fmt.Errorf("list packages: %w", err)
		}
		if !installed {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// Install installs packages without those that they only recommend.
func (dnf) Install(ctx context.Context, r command.Runner, names []string) error {
	_, err := r.Run(ctx, command.AsRoot(append([]string{"dnf", "install", "-y", "--setopt=install_weak_deps=False"}, names...)...))
	return err
}
