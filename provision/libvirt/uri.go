package libvirt

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// URI is a libvirtd: on this host by its socket, or on another one through ssh. There is
// no other way to make one than from a text that says so in full, and the zero one is
// refused by Dial.
type URI struct {
	scheme string // qemu, qemu+unix or qemu+ssh
	user   string
	host   string
	port   int
	socket string
}

const (
	schemeLocal = "qemu"
	schemeUnix  = "qemu+unix"
	schemeSSH   = "qemu+ssh"
	sshPort     = 22
)

// uriForms is what every error about a URI ends with: what would have been right.
const uriForms = "want qemu:///system or qemu+ssh://user@host/system"

// ParseURI reads qemu:///system, qemu+unix:///system and qemu+ssh://user@host[:port]/system,
// each with ?socket=/path where libvirtd's socket is elsewhere. The error says which part
// is wrong.
func ParseURI(s string) (URI, error) {
	wrong := func(format string, args ...any) (URI, error) {
		return URI{}, fmt.Errorf("libvirt URI %q: %s", s, fmt.Sprintf(format, args...))
	}
	if s == "" {
		return wrong("is empty: %s", uriForms)
	}
	for at, r := range s {
		if unicode.IsSpace(r) {
			return wrong("there is a space at character %d: a URI has none", at+1)
		}
		if r < 0x20 || r == 0x7f || r > 0x7e {
			return wrong("there is an unusual character %q at %d: write it in ASCII", r, at+1)
		}
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		return wrong("has no scheme: %s", uriForms)
	}
	switch scheme {
	case schemeLocal, schemeUnix, schemeSSH:
	default:
		return wrong("unknown scheme %q: %s", scheme, uriForms)
	}
	if strings.Contains(rest, "#") {
		return wrong("ends with a fragment (#…), which means nothing here: leave it out")
	}
	rest, query, asked := strings.Cut(rest, "?")
	u := URI{scheme: scheme}
	if asked {
		var err error
		if u.socket, err = socketOf(query); err != nil {
			return wrong("%v", err)
		}
	}
	authority, where, found := strings.Cut(rest, "/")
	if !found {
		return wrong("has no path: end it with /system")
	}
	switch where {
	case "system":
	case "session":
		return wrong("path /session is a user's own libvirt, which has no networks: use /system")
	default:
		return wrong("path %q: the path is /system", "/"+where)
	}
	if scheme == schemeSSH {
		if err := u.parseAuthority(authority); err != nil {
			return wrong("%v", err)
		}
	} else if authority != "" {
		return wrong("names host %q without saying how to reach it: write qemu+ssh://user@%s/system",
			authority, authority[strings.LastIndexByte(authority, '@')+1:])
	}
	return u, nil
}

// MustURI is ParseURI for constants: it panics.
func MustURI(s string) URI {
	u, err := ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

func socketOf(query string) (string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("the part after the question mark: %v", err)
	}
	for key := range values {
		if key != "socket" {
			return "", fmt.Errorf("unknown parameter %q: there is only socket", key)
		}
	}
	at := values["socket"]
	switch {
	case len(at) == 0:
		return "", nil
	case len(at) > 1:
		return "", fmt.Errorf("parameter socket is given %d times", len(at))
	case !strings.HasPrefix(at[0], "/") || path.Clean(at[0]) != at[0]:
		return "", fmt.Errorf("socket %q is not an absolute path", at[0])
	}
	for _, r := range at[0] {
		if unicode.IsSpace(r) || r < 0x20 || r == 0x7f {
			return "", fmt.Errorf("socket %q has a space in it", at[0])
		}
	}
	return at[0], nil
}

func (u *URI) parseAuthority(authority string) error {
	who, where, found := strings.Cut(authority, "@")
	switch {
	case authority == "":
		return fmt.Errorf("has neither user nor host: %s", uriForms)
	case !found || who == "":
		return fmt.Errorf("has no user: write qemu+ssh://user@%s/system", strings.TrimPrefix(authority, "@"))
	case strings.Contains(who, ":"):
		return fmt.Errorf("has a password in it: use a key, and write the user alone")
	case !isName(who, "_.-"):
		return fmt.Errorf("user %q is not a user's name", who)
	}
	host, port := where, ""
	if strings.HasPrefix(where, "[") {
		inside, after, closed := strings.Cut(where[1:], "]")
		if !closed || (after != "" && after[0] != ':') {
			return fmt.Errorf("host %q: an IPv6 address stands in brackets", where)
		}
		host, port = inside, strings.TrimPrefix(after, ":")
		if after == ":" {
			return fmt.Errorf("has no port after the colon")
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() || ip.Zone() != "" {
			return fmt.Errorf("host %q is not an IPv6 address", host)
		}
	} else {
		var colon bool
		if host, port, colon = strings.Cut(where, ":"); colon {
			switch {
			case strings.Contains(port, ":"):
				return fmt.Errorf("host %q: an IPv6 address stands in brackets", where)
			case port == "":
				return fmt.Errorf("has no port after the colon")
			}
		}
		if host == "" {
			return fmt.Errorf("has no host: %s", uriForms)
		}
		if !isName(host, ".-_") {
			return fmt.Errorf("host %q is neither a name nor an address", host)
		}
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535", port)
		}
		u.port = int(n)
	}
	u.user, u.host = who, host
	return nil
}

// isName reports whether s consists of letters, digits and what else is allowed, and
// begins with none of the latter but the underscore: a host -oProxyCommand is an option
// to ssh.
func isName(s, also string) bool {
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case strings.ContainsRune(also, r) && (i > 0 || r == '_'):
		default:
			return false
		}
	}
	return s != ""
}

// String is what ParseURI reads back as the same URI.
func (u URI) String() string {
	if u.scheme == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(u.scheme + "://")
	if u.scheme == schemeSSH {
		b.WriteString(u.user + "@")
		switch {
		case u.port != 0:
			b.WriteString(net.JoinHostPort(u.host, strconv.Itoa(u.port)))
		case strings.Contains(u.host, ":"):
			b.WriteString("[" + u.host + "]")
		default:
			b.WriteString(u.host)
		}
	}
	b.WriteString("/system")
	if u.socket != "" {
		b.WriteString("?socket=" + strings.ReplaceAll(url.QueryEscape(u.socket), "%2F", "/"))
	}
	return b.String()
}

// Local reports whether the libvirtd is on this host.
func (u URI) Local() bool { return u.scheme == schemeLocal || u.scheme == schemeUnix }

// SSH is whom to log in as on which host, all zero for a local URI.
func (u URI) SSH() (user, host string, port int) {
	if u.scheme != schemeSSH {
		return "", "", 0
	}
	port = u.port
	if port == 0 {
		port = sshPort
	}
	return u.user, u.host, port
}
