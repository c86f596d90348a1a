package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleet/contracts"
)

func deviceOfHost(name string) (contracts.DeviceID, error) {
	first, _, _ := strings.Cut(strings.ToLower(name), ".")
	id, err := contracts.ParseDeviceID(first)
	if err != nil {
		return "", fmt.Errorf("field device is missing, and the host name is no ID: %w", err)
	}
	return id, nil
}

func natsURL(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return fmt.Errorf("%q is not a server's URL, want nats://HOST:PORT, tls://…, ws://… or wss://…", one)
		}
	}
	return nil
}

func socket(s string) error {
	path, ok := strings.CutPrefix(s, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not a socket, want unix:///PATH", s)
	}
	return nil
}

// podmanSocket is where the podman of a user has its socket: root's has one of the
// device, every other's is rootless.
func podmanSocket(uid int, runtimeDir string) string {
	if uid == 0 {
		return "unix:///run/podman/podman.sock"
	}
	if runtimeDir == "" {
		runtimeDir = fmt.Sprintf("/run/user/%d", uid)
	}
	return "unix://" + filepath.Join(runtimeDir, "podman/podman.sock")
}

func absolute(s string) error {
	if !filepath.IsAbs(s) {
		return fmt.Errorf("%q must be an absolute path", s)
	}
	return nil
}

func duration(s string, lowest, highest time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration, want a number with its unit, such as 30s", s)
	}
	if d < lowest || d > highest {
		return 0, fmt.Errorf("%s is not between %s and %s", s, lowest, highest)
	}
	return d, nil
}

func level(s string) (slog.Level, error) {
	var l slog.Level
	if err := oneOf(s, "debug", "info", "warn", "error"); err != nil {
		return l, err
	}
	return l, l.UnmarshalText([]byte(s))
}

func oneOf(s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(allowed, ", "))
	}
	return nil
}

// allowed is a setting that is allow or deny.
func allowed(into *bool) text {
	return func(s string) error {
		*into = s == "allow"
		return oneOf(s, "allow", "deny")
	}
}
