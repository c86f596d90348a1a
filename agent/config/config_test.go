package config

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nationtech/fleet/agent/policy"
	"github.com/nationtech/fleet/provision/libvirt"
)

const whole = `
device: shop-1
nats:
  url: tls://fleet.example.com:4222
  caFile: /etc/fleet-agent/ca.pem
  seedFile: /etc/fleet-agent/seed.nk
stateDir: /srv/agent
heartbeatInterval: 5s
hostIP: 192.0.2.7
podman:
  socket: unix:///run/user/0/podman.sock
  network: fleet
  allow:
    hostPaths: [/srv/app, /dev/ttyUSB0]
    privileged: true
    hostNetwork: true
    capabilities: [NET_ADMIN, cap_sys_time]
    hostPorts: [80, 8000-8999]
kvm:
  uri: qemu+unix:///system?socket=/run/libvirt/libvirt-sock
  pool: machines
  emulate: true
  allow:
    bridges: [br0]
commands:
  ping: deny
  logs: deny
  exec: allow
  restart: deny
log:
  level: debug
  format: json
`

func TestParse(t *testing.T) {
	full := Config{
		Device: "shop-1", NATS: NATS{URL: "tls://fleet.example.com:4222", CAFile: "/etc/fleet-agent/ca.pem", SeedFile: "/etc/fleet-agent/seed.nk"},
		StateDir: "/srv/agent", HeartbeatInterval: 5 * time.Second, HostIP: "192.0.2.7",
		Podman: Podman{Socket: "unix:///run/user/0/podman.sock", Network: "fleet", Allow: policy.Podman{
			HostPaths: []string{"/srv/app", "/dev/ttyUSB0"}, Privileged: true, HostNetwork: true,
			Capabilities: []string{"NET_ADMIN", "SYS_TIME"}, HostPorts: []policy.Ports{{First: 80, Last: 80}, {First: 8000, Last: 8999}},
		}}, Log: Log{Level: slog.LevelDebug, Format: "json"},
		KVM: &KVM{
			URI: libvirt.MustURI("qemu+unix:///system?socket=/run/libvirt/libvirt-sock"), Pool: "machines", Emulate: true,
			Allow: policy.KVM{Bridges: []string{"br0"}},
		},
		Commands: Commands{Exec: true},
	}
	least := Config{
		Device: "shop-1", NATS: NATS{URL: "nats://a:4222,nats://b:4222", SeedFile: "/var/lib/fleet-agent/identity.nk"},
		StateDir: "/var/lib/fleet-agent", HeartbeatInterval: 30 * time.Second,
		Podman: Podman{Socket: podmanSocket(os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR")), Allow: policy.Podman{HostPorts: []policy.Ports{{First: 1024, Last: 65535}}}}, Log: Log{Level: slog.LevelInfo, Format: "text"},
		Commands: Commands{Ping: true, Logs: true, Restart: true},
	}
	for name, tt := range map[string]struct {
		text string
		want Config
	}{
		"every field":                    {whole, full},
		"the least, the rest by default": {"device: shop-1\nnats: {url: 'nats://a:4222,nats://b:4222'}\npodman:\n", least},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b libvirt.URI) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"a misspelt field is suggested":    {"devise: x", []string{"line 1: field devise: is unknown; did you mean device?"}},
		"a misspelt field further down":    {"nats:\n  ulr: x", []string{"line 2: field nats.ulr: is unknown; did you mean url?"}},
		"another spelling of capitals":     {"statedir: /x", []string{"did you mean stateDir?"}},
		"a field of no likeness":           {"log: {colour: red}", []string{"known are format, level"}},
		"a number for text":                {"\ndevice: 12", []string{"line 2: field device: is a number, want text"}},
		"a list for text":                  {"device: [a]", []string{"field device: is a list, want a single value"}},
		"text for fields":                  {"nats: nats://x", []string{"field nats: is text, want fields: caFile, seedFile, url"}},
		"a list for the file":              {"- a", []string{"line 1: the file is a list"}},
		"a field twice":                    {"device: a\ndevice: b", []string{"line 2: field device: is there twice"}},
		"two documents":                    {"device: a\n---\ndevice: b", []string{"more than one document"}},
		"no YAML":                          {"a: [", []string{"line 1"}},
		"a device ID that is none":         {"device: Shop.1", []string{"line 1: field device: device ID \"Shop.1\" is not a DNS label"}},
		"a URL that is none":               {"nats: {url: 'http://x'}", []string{"field nats.url: \"http://x\" is not a server's URL"}},
		"a duration without unit":          {"heartbeatInterval: '30'", []string{"is not a duration"}},
		"a duration as a number":           {"heartbeatInterval: 30", []string{"is a number, want text; put \"30\" in quotes"}},
		"a heartbeat that is too fast":     {"heartbeatInterval: 10ms", []string{"10ms is not between 1s and 10m0s"}},
		"a relative directory":             {"stateDir: x", []string{"must be an absolute path"}},
		"a socket that is none":            {"podman: {socket: /run/x}", []string{"want unix:///PATH"}},
		"an address that is none":          {"hostIP: a.b", []string{"is not an IP address"}},
		"a command that is neither":        {"commands: {exec: allowed}", []string{"line 1: field commands.exec: \"allowed\" is none of allow, deny"}},
		"a command as true or false":       {"commands: {exec: true}", []string{"is true or false, want text"}},
		"a command that there is not":      {"commands: {shell: allow}", []string{"known are exec, logs, ping, restart"}},
		"a log level that is none":         {"log: {level: loud}", []string{"\"loud\" is none of debug, info, warn, error"}},
		"a path that is relative":          {"podman: {allow: {hostPaths: [srv]}}", []string{"line 1: field podman.allow.hostPaths: \"srv\" must be an absolute path"}},
		"a path that leads up":             {"podman: {allow: {hostPaths: [/srv/../etc]}}", []string{"must be written as /etc"}},
		"a path with a colon":              {"podman: {allow: {hostPaths: ['/srv:/etc']}}", []string{"contains a colon"}},
		"a path below another":             {"podman: {allow: {hostPaths: [/srv/app, /srv]}}", []string{"\"/srv/app\" is below \"/srv\""}},
		"machines on another computer":     {"kvm: {uri: 'qemu+ssh://root@host/system'}", []string{"line 1: field kvm.uri:", "is on another computer"}},
		"a libvirt URI with a space":       {"kvm: {uri: 'qemu:/// system'}", []string{"line 1: field kvm.uri:", "space"}},
		"a pool that is a path":            {"kvm: {pool: ../images}", []string{"is not the name of a storage pool"}},
		"a bridge that is none":            {"kvm: {allow: {bridges: [br/0]}}", []string{"line 1: field kvm.allow.bridges: \"br/0\" is not the name of a bridge"}},
		"a misspelt field of machines":     {"kvm: {emulated: true}", []string{"did you mean emulate?"}},
		"a path below the root":            {"podman: {allow: {hostPaths: [/, /srv]}}", []string{"\"/srv\" is below \"/\""}},
		"one path for a list":              {"podman: {allow: {hostPaths: /srv}}", []string{"field podman.allow.hostPaths: is text, want a list"}},
		"a list in a list":                 {"podman: {allow: {hostPaths: [[/srv]]}}", []string{"has a list in it"}},
		"a word for true or false":         {"podman: {allow: {privileged: allow}}", []string{"field podman.allow.privileged: is text, want true or false"}},
		"a capability that there is not":   {"podman: {allow: {capabilities: [NET_ADMN]}}", []string{"\"NET_ADMN\" is not a capability"}},
		"a port that is none":              {"podman: {allow: {hostPorts: [http]}}", []string{"\"http\" is neither a port"}},
		"a port that is too high":          {"podman: {allow: {hostPorts: [70000]}}", []string{"\"70000\" is neither a port"}},
		"a range that goes down":           {"podman: {allow: {hostPorts: [90-80]}}", []string{"\"90-80\" is neither a port"}},
		"everything that is wrong is told": {"devise: x\nlog: {level: loud}", []string{"line 1", "line 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want it to contain %q", err, want)
				}
			}
		})
	}
}

func TestPathsThatAreAlikeAreNotBelowEachOther(t *testing.T) {
	c, err := Parse([]byte("device: a\nnats: {url: 'nats://a'}\npodman: {allow: {hostPaths: [/srv/app, /srv/apple], hostPorts: []}}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Podman.Allow.HostPaths) != 2 || len(c.Podman.Allow.HostPorts) != 0 {
		t.Errorf("%+v", c.Podman.Allow)
	}
}

func TestPodmanSocket(t *testing.T) {
	for want, of := range map[string]struct {
		uid int
		dir string
	}{
		"unix:///run/podman/podman.sock":          {0, "/run/user/0"},
		"unix:///run/user/998/podman/podman.sock": {998, ""},
		"unix:///somewhere/podman/podman.sock":    {998, "/somewhere"},
	} {
		if got := podmanSocket(of.uid, of.dir); got != want {
			t.Errorf("user %d in %q: %s, want %s", of.uid, of.dir, got, want)
		}
	}
}

func TestDeviceOfHost(t *testing.T) {
	if id, err := deviceOfHost("Shop-1.example.com"); id != "shop-1" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := deviceOfHost("shop_1"); err == nil || !strings.Contains(err.Error(), "field device is missing") {
		t.Errorf("error %v does not tell to set the field", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("a: &a [*a]")
	f.Add("podman: {allow: {hostPorts: [1-2-3], hostPaths: [*x]}}")
	f.Add("nats: {url: [")
	f.Fuzz(func(_ *testing.T, s string) {
		// It must not panic, whatever it is given.
		_, _ = Parse([]byte(s))
	})
}

func TestMachinesAreOffUnlessTheFileHasTheSection(t *testing.T) {
	for text, want := range map[string]bool{"device: d": false, "device: d\nkvm:": true, "device: d\nkvm: {}": true} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if (c.KVM != nil) != want {
			t.Errorf("%q: the section is %+v", text, c.KVM)
		}
		if c.KVM != nil && (c.KVM.URI.String() != "qemu:///system" || c.KVM.Pool != libvirt.PoolName() || c.KVM.Emulate) {
			t.Errorf("%q: the defaults are %+v", text, c.KVM)
		}
	}
}
