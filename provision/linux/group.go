package linux

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleet/provision/command"
	"github.com/nationtech/fleet/provision/score"
)

// Member is a user who has to be in a group.
type Member struct {
	// User is empty for whoever runs commands on the host.
	User, Group string
}

// Name says who and where.
func (m Member) Name() string { return "group " + m.Group }

// Interpret puts the user into the group. A session that runs already does not notice.
func (m Member) Interpret(ctx context.Context, r command.Runner) (score.Outcome, error) {
	user := m.User
	if user == "" {
		result, err := r.Run(ctx, command.New("id", "-un"))
		if err != nil {
			return score.Outcome{}, err
		}
		user = strings.TrimSpace(result.Stdout)
	}
	if user == "root" {
		return score.Unchanged("root needs no group"), nil
	}
	result, err := r.Run(ctx, command.New("id", "-nG", user))
	if err != nil {
		return score.Outcome{}, fmt.Errorf("find out the groups of %s: %w", user, err)
	}
	if slices.Contains(strings.Fields(result.Stdout), m.Group) {
		return score.Unchanged("%s is in it", user), nil
	}
	if _, err := r.Run(ctx, command.AsRoot("usermod", "-aG", m.Group, user)); err != nil {
		return score.Outcome{}, fmt.Errorf("put %s into the group %s: %w", user, m.Group, err)
	}
	return score.Changed("put %s into it", user), nil
}
