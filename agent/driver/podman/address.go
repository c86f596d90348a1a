package podman

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/nationtech/fleet/agent/reconcile"
)

// Rootless reports whether podman runs without rights of its own. It is asked once: the
// podman behind a socket does not change that.
func (d *Driver) Rootless(ctx context.Context) (bool, error) {
	if known := d.rootless.Load(); known != nil {
		return *known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out struct {
		Host struct {
			Security struct {
				Rootless bool `json:"rootless"`
			} `json:"security"`
		} `json:"host"`
	}
	if err := d.c.call(ctx, http.MethodGet, "/info", nil, nil, &out); err != nil {
		return false, d.failure("ask podman whether it is rootless", err, reconcile.ReasonNoDriver)
	}
	d.rootless.Store(&out.Host.Security.Rootless)
	return out.Host.Security.Rootless, nil
}

// networkSettings are a container's, when it is looked at on its own.
type networkSettings struct {
	IPAddress string
	Networks  map[string]struct{ IPAddress, GlobalIPv6Address string }
	// Ports are the mapped ones, by "8080/tcp".
	Ports map[string][]struct{ HostIP, HostPort string }
}

// Address is where a pod on podman's network is reached, by its infra container.
func (d *Driver) Address(ctx context.Context, infraID string) (reconcile.Address, error) {
	rootless, err := d.Rootless(ctx)
	if err != nil {
		return reconcile.Address{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out struct{ NetworkSettings networkSettings }
	if err := d.c.call(ctx, http.MethodGet, "/containers/"+infraID+"/json", nil, nil, &out); err != nil {
		return reconcile.Address{}, d.failure("look for the pod's address", err, reconcile.ReasonNoDriver)
	}
	if rootless {
		return reconcile.Address{Mapped: out.NetworkSettings.mapped()}, nil
	}
	if ip := out.NetworkSettings.ip(); ip != "" {
		return reconcile.Address{Host: ip}, nil
	}
	return reconcile.Address{}, fmt.Errorf("container %s has no address", short(infraID))
}

func (s networkSettings) ip() string {
	if s.IPAddress != "" {
		return s.IPAddress
	}
	for _, n := range s.Networks {
		if n.IPAddress != "" {
			return n.IPAddress
		}
		if n.GlobalIPv6Address != "" {
			return n.GlobalIPv6Address
		}
	}
	return ""
}

// mapped are the addresses on the device of the TCP ports that are mapped.
func (s networkSettings) mapped() map[int32]string {
	all := map[int32]string{}
	for name, at := range s.Ports {
		number, protocol, _ := strings.Cut(name, "/")
		port, err := strconv.ParseInt(number, 10, 32)
		if err != nil || protocol != "tcp" || len(at) == 0 {
			continue
		}
		host := at[0].HostIP
		switch host {
		case "", "0.0.0.0":
			host = "127.0.0.1"
		case "::":
			host = "::1"
		}
		all[int32(port)] = net.JoinHostPort(host, at[0].HostPort)
	}
	return all
}
