package linux

import (
	"context"
	"fmt"
	"strings"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/score"
)

// Manager is what installs packages on a host.
type Manager interface {
	Name() string
	// Missing are those of the packages that are not installed.
	Missing(ctx context.Context, r command.Runner, names []string) ([]string, error)
	Install(ctx context.Context, r command.Runner, names []string) error
}

// ManagerOf is the manager of a distribution's packages.
func ManagerOf(release Release) (Manager, error) {
	switch {
	case release.is("debian", "ubuntu"):
		return apt{}, nil
	case release.is("fedora", "rhel", "centos"):
		return dnf{}, nil
	}
	return nil, fmt.Errorf("packages of %s can't be installed: there is apt for Debian and what is made of it, and dnf for Fedora and Red Hat's", release)
}

// Packages are packages that a host has to have, by the name of the manager: the same thing
// goes by another name in each.
type Packages map[string][]string

// Name says which they are.
func (p Packages) Name() string { return "packages" }

// Interpret installs what is missing.
func (p Packages) Interpret(ctx context.Context, r command.Runner) (score.Outcome, error) {
	missing, manager, err := p.Missing(ctx, r)
	if err != nil {
		return score.Outcome{}, err
	}
	if len(missing) == 0 {
		return score.Unchanged("%s are installed", strings.Join(p[manager.Name()], ", ")), nil
	}
	if err := manager.Install(ctx, r, missing); err != nil {
		return score.Outcome{}, fmt.Errorf("install %s: %w", strings.Join(missing, ", "), err)
	}
	// A package manager that ends well has not always installed what it was asked for: dnf
	// leaves out what it does not know.
	still, err := manager.Missing(ctx, r, missing)
	if err != nil {
		return score.Outcome{}, err
	}
	if len(still) > 0 {
		return score.Outcome{}, fmt.Errorf("%s is still missing on %s after the installation", strings.Join(still, ", "), r.Host())
	}
	return score.Changed("installed %s", strings.Join(missing, ", ")), nil
}

// Missing are those that are not installed, and what would install them.
func (p Packages) Missing(ctx context.Context, r command.Runner) ([]string, Manager, error) {
	release, err := ReadRelease(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	manager, err := ManagerOf(release)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.Host(), err)
	}
	names, known := p[manager.Name()]
	if !known {
		return nil, nil, fmt.Errorf("%s: which packages are meant is not known for %s", r.Host(), manager.Name())
	}
	missing, err := manager.Missing(ctx, r, names)
	return missing, manager, err
}
