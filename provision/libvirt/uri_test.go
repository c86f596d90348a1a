package libvirt

import (
	"strings"
	"testing"
)

func TestAURIIsReadAndWrittenTheSame(t *testing.T) {
	for _, test := range []struct {
		in, user, host string
		port           int
		local          bool
		socket         string
	}{
		{in: "qemu:///system", local: true},
		{in: "qemu:///system?socket=/run/other/libvirt-sock", local: true, socket: "/run/other/libvirt-sock"},
		{in: "qemu+unix:///system?socket=/tmp/a%25b", local: true, socket: "/tmp/a%b"},
		{in: "qemu+ssh://root@edge-1/system", user: "root", host: "edge-1", port: 22},
		{in: "qemu+ssh://fleet_admin@edge-1.example.com:2222/system", user: "fleet_admin", host: "edge-1.example.com", port: 2222},
		{in: "qemu+ssh://root@192.0.2.7/system?socket=/s", user: "root", host: "192.0.2.7", port: 22, socket: "/s"},
		{in: "qemu+ssh://root@[2001:db8::7]/system", user: "root", host: "2001:db8::7", port: 22},
		{in: "qemu+ssh://root@[2001:db8::7]:23/system", user: "root", host: "2001:db8::7", port: 23},
	} {
		t.Run(test.in, func(t *testing.T) {
			u, err := ParseURI(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if u.String() != test.in {
				t.Errorf("it is written %s", u)
			}
			if user, host, port := u.SSH(); user != test.user || host != test.host || port != test.port {
				t.Errorf("SSH() = %q, %q, %d", user, host, port)
			}
			if u.Local() != test.local || u.socket != test.socket {
				t.Errorf("Local() = %v, socket %q", u.Local(), u.socket)
			}
		})
	}
}

func TestTheErrorAboutAURISaysWhichPartIsWrong(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", "is empty"},
		{"a space in the host", "qemu+ssh://root@edge 1/system", "space at character 21"},
		{"a space at the end", "qemu:///system ", "space at character 15"},
		{"a line break", "qemu:///system\n", "space at character 15"},
		{"a control character", "qemu:///sys\x01tem", "unusual character"},
		{"a letter that looks like another", "qemu:///ѕystem", "unusual character"},
		{"no scheme", "edge-1", "no scheme"},
		{"a path alone", "/run/libvirt/libvirt-sock", "no scheme"},
		{"one slash too few", "qemu:/system", "no scheme"},
		{"another hypervisor", "xen:///system", `unknown scheme "xen"`},
		{"another transport", "qemu+tcp://edge-1/system", `unknown scheme "qemu+tcp"`},
		{"a scheme in capitals", "QEMU:///system", `unknown scheme "QEMU"`},
		{"a host without a transport", "qemu://edge-1/system", "write qemu+ssh://user@edge-1/system"},
		{"a user and host without a transport", "qemu://root@edge-1/system", "write qemu+ssh://user@edge-1/system"},
		{"no user", "qemu+ssh://edge-1/system", "has no user"},
		{"an empty user", "qemu+ssh://@edge-1/system", "has no user"},
		{"neither user nor host", "qemu+ssh:///system", "neither user nor host"},
		{"no host", "qemu+ssh://root@/system", "has no host"},
		{"a password", "qemu+ssh://root:secret@edge-1/system", "password"},
		{"an option as the host", "qemu+ssh://root@-oProxyCommand=x/system", "neither a name nor an address"},
		{"an option as the user", "qemu+ssh://-oProxyCommand@x/system", "not a user's name"},
		{"two users", "qemu+ssh://root@root@edge-1/system", "neither a name nor an address"},
		{"a port that is no number", "qemu+ssh://root@edge-1:ssh/system", `port "ssh"`},
		{"port 0", "qemu+ssh://root@edge-1:0/system", `port "0"`},
		{"a port too large", "qemu+ssh://root@edge-1:65536/system", `port "65536"`},
		{"a negative port", "qemu+ssh://root@edge-1:-22/system", `port "-22"`},
		{"no port after the colon", "qemu+ssh://root@edge-1:/system", "no port after the colon"},
		{"an IPv6 address without brackets", "qemu+ssh://root@2001:db8::7/system", "in brackets"},
		{"a bracket that is not closed", "qemu+ssh://root@[2001:db8::7/system", "in brackets"},
		{"brackets around a name", "qemu+ssh://root@[edge-1]/system", "not an IPv6 address"},
		{"no path", "qemu://", "no path"},
		{"no path behind a host", "qemu+ssh://root@edge-1", "no path"},
		{"an empty path", "qemu:///", `path "/"`},
		{"a user's own libvirt", "qemu:///session", "/session"},
		{"a path elsewhere", "qemu:///system/more", `path "/system/more"`},
		{"a fragment", "qemu:///system#1", "fragment"},
		{"an unknown parameter", "qemu:///system?no_verify=1", `unknown parameter "no_verify"`},
		{"a broken parameter", "qemu:///system?socket=%zz", "after the question mark"},
		{"a relative socket", "qemu:///system?socket=sock", "not an absolute path"},
		{"a socket that goes up", "qemu:///system?socket=/a/../b", "not an absolute path"},
		{"a socket with a space", "qemu:///system?socket=/a%20b", "space"},
		{"two sockets", "qemu:///system?socket=/a&socket=/b", "2 times"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, err := ParseURI(test.in)
			if err == nil {
				t.Fatalf("it is read as %s", u)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error does not say %q: %v", test.want, err)
			}
			if u != (URI{}) {
				t.Errorf("there is a URI beside the error: %s", u)
			}
		})
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{
		"qemu:///system", "qemu+unix:///system?socket=/a", "qemu+ssh://root@[::1]:22/system",
		"qemu+ssh://a@b/system?socket=/%2f", "qemu+ssh://a@b:0/system", "qemu:///system#x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%q is written %q, which is read as %q: %v", s, u, again, err)
		}
		if _, host, _ := u.SSH(); u.Local() != (host == "") {
			t.Errorf("%q: Local() is %v and the host %q", s, u.Local(), host)
		}
	})
}
