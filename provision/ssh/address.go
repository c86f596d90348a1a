// Package ssh reaches Linux hosts over SSH: it runs commands there, and opens connections
// to their sockets.
package ssh

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/user"
	"strconv"
	"strings"
)

// Scheme begins the URL of a host.
const Scheme = "ssh"

const defaultPort = 22

// Address is where a host is, and who to be there.
type Address struct {
	User string
	Name string
	Port int
}

// ParseAddress reads ssh://user@host[:port]. The error names the part that is wrong.
func ParseAddress(text string) (Address, error) {
	fail := func(format string, args ...any) (Address, error) {
		return Address{}, fmt.Errorf("host %q: %s; it is written as ssh://user@host or ssh://user@host:port", text, fmt.Sprintf(format, args...))
	}
	if strings.ContainsAny(text, " \t\r\n") {
		return fail("it has a space in it")
	}
	u, err := url.Parse(text)
	if err != nil {
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return fail("%v", err)
	}
	if u.Scheme != Scheme {
		return fail("the scheme is %q", u.Scheme)
	}
	if _, has := u.User.Password(); has {
		return fail("it has a password, which others could read: take a key")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fail("there is something after the host")
	}
	a := Address{User: u.User.Username(), Name: u.Hostname(), Port: defaultPort}
	if a.Name == "" || strings.HasPrefix(a.Name, "-") {
		return fail("the host's name is missing or is none")
	}
	if p := u.Port(); p != "" {
		if a.Port, err = strconv.Atoi(p); err != nil || a.Port < 1 || a.Port > 65535 {
			return fail("the port %s is not between 1 and 65535", p)
		}
	}
	return a.complete()
}

// complete fills in what ssh itself would.
func (a Address) complete() (Address, error) {
	a.Port = cmp.Or(a.Port, defaultPort)
	if a.User == "" {
		me, err := user.Current()
		if err != nil {
			return Address{}, fmt.Errorf("host %s: whom to be there is not said, and who you are is unknown: %w", a.Name, err)
		}
		a.User = me.Username
	}
	return a, nil
}

// String is the address as ParseAddress reads it.
func (a Address) String() string {
	u := url.URL{Scheme: Scheme, User: url.User(a.User), Host: a.Name}
	if strings.Contains(a.Name, ":") {
		u.Host = "[" + a.Name + "]"
	}
	if a.Port != defaultPort {
		u.Host += ":" + strconv.Itoa(a.Port)
	}
	return u.String()
}

// dial is the address to connect to.
func (a Address) dial() string { return net.JoinHostPort(a.Name, strconv.Itoa(a.Port)) }
