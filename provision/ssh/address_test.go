package ssh

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, fails string }{
		"user and host":          {"ssh://ada@host7", "ssh://ada@host7", ""},
		"a port":                 {"ssh://ada@host7:2222", "ssh://ada@host7:2222", ""},
		"the usual port":         {"ssh://ada@host7:22/", "ssh://ada@host7", ""},
		"an IPv6 address":        {"ssh://ada@[2001:db8::1]:2222", "ssh://ada@[2001:db8::1]:2222", ""},
		"a space":                {"ssh://ada@host 7", "", "it has a space in it"},
		"another scheme":         {"qemu+ssh://ada@host7/system", "", `the scheme is "qemu+ssh"`},
		"no scheme":              {"ada@host7", "", "the scheme is"},
		"a password":             {"ssh://ada:secret@host7", "", "it has a password"},
		"something after it":     {"ssh://ada@host7/system", "", "something after the host"},
		"a port that is none":    {"ssh://ada@host7:70000", "", "port 70000"},
		"no host":                {"ssh://ada@", "", "host's name is missing"},
		"an option for a host":   {"ssh://ada@-oProxyCommand=id", "", "missing or is none"},
		"nothing":                {"", "", "the scheme is"},
		"a port that is letters": {"ssh://ada@host7:ssh", "", "ssh://user@host"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := ParseAddress(tt.text)
			switch {
			case tt.fails != "":
				if err == nil || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(err.Error(), "ssh://user@host") {
					t.Errorf("%v, %v", a, err)
				}
			case err != nil || a.String() != tt.want:
				t.Errorf("%v, %v; want %s", a, err, tt.want)
			}
		})
	}
	if a, err := ParseAddress("ssh://host7"); err != nil || a.User == "" {
		t.Errorf("without a user it is oneself: %+v, %v", a, err)
	}
}
