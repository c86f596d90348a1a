// Package linux brings a Linux host to what it should be: packages, services, groups.
package linux

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nationtech/fleet/provision/command"
)

// Release is what /etc/os-release says of a distribution.
type Release struct {
	ID, Version, Name string
	// Like are the distributions that this one is made of.
	Like []string
}

// ReadRelease reads a host's.
func ReadRelease(ctx context.Context, r command.Runner) (Release, error) {
	result, err := r.Run(ctx, command.New("cat", "/etc/os-release"))
	if err != nil {
		return Release{}, fmt.Errorf("find out which distribution %s has: %w", r.Host(), err)
	}
	return ParseRelease(result.Stdout), nil
}

// ParseRelease reads os-release(5). What it does not understand it leaves out.
func ParseRelease(text string) Release {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found || strings.HasPrefix(key, "#") {
			continue
		}
		values[key] = unquote(value)
	}
	return Release{ID: values["ID"], Version: values["VERSION_ID"], Name: values["PRETTY_NAME"], Like: strings.Fields(values["ID_LIKE"])}
}

func unquote(value string) string {
	if plain, err := strconv.Unquote(value); err == nil {
		return plain
	}
	return strings.Trim(value, `'"`)
}

// String names the distribution for people.
func (r Release) String() string {
	switch {
	case r.Name != "":
		return r.Name
	case r.ID != "":
		return strings.TrimSpace(r.ID + " " + r.Version)
	}
	return "an unknown distribution"
}

// is reports whether the distribution is one of these, or made of one.
func (r Release) is(ids ...string) bool {
	for _, id := range ids {
		if r.ID == id {
			return true
		}
		for _, like := range r.Like {
			if like == id {
				return true
			}
		}
	}
	return false
}
