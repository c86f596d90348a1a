package bus

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// The accounts of the server. JetStream and every stream live in AccountOperators;
// devices are in AccountDevices, which reaches single services of it. In one
// account permissions would not hold: the subject that a reply goes to is not
// checked, so a device could have the acknowledgement of its own state overwrite
// what another device is told.
const (
	AccountOperators = "OPS"
	AccountDevices   = "DEVICES"
	// AccountSystem is the server's own, in which the operator disconnects devices.
	AccountSystem = "SYS"
)

// devicePayload bounds one message of a device, in bytes: above all that a device has to
// say, and far below what the server takes by itself. Subjects that no stream bounds would
// else have the operator take in as much as a device sends.
const devicePayload = 128 << 10

const (
	commands = contracts.CommandPrefix + ".*.*"
	sessions = contracts.SessionPrefix + ".*.*"
)

// Permissions are subjects that a user may publish and subscribe to; everything
// else is refused. A user may answer what it was asked.
type Permissions struct {
	Publish, Subscribe []string
	// subscribeDeny is what of Subscribe it may not all the same.
	subscribeDeny []string
	// answerTime is how long that may take, the package's answerTime when 0.
	answerTime time.Duration
}

// answerTime is how long a user may take to answer.
const answerTime = 2 * time.Minute

// DevicePermissions are those of one device: its own keys, and nothing that lets
// it see or change another's.
func DevicePermissions(d contracts.DeviceID) Permissions {
	return Permissions{
		Publish: []string{
			contracts.BucketDeviceState.Subject(contracts.DeviceStateKey(d, "*")),
			contracts.BucketDeviceInfo.Subject(contracts.DeviceInfoKey(d)),
			contracts.BucketDeviceHeartbeat.Subject(contracts.HeartbeatKey(d)),
			contracts.SnapshotSubject(d),
			contracts.SessionPrefix + "." + string(d) + ".*",
		},
		Subscribe: []string{
			contracts.DesiredStateSubject(d, "*"),
			Caller{Device: d}.inboxPrefix() + ".>",
			contracts.CommandSubject(d, "*"),
		},
	}
}

// OperatorPermissions are those of the operator in its own account.
func OperatorPermissions() Permissions {
	return Permissions{
		Publish: []string{
			"$JS.API.>", commands,
			contracts.BucketDesiredState.Subject("*.*"),
			contracts.BucketDeviceState.Subject("state.*.*"),
			contracts.BucketDeviceInfo.Subject("info.*"),
			contracts.BucketDeviceHeartbeat.Subject("heartbeat.*"),
		},
		Subscribe: []string{"_INBOX.>", contracts.SnapshotPrefix + ".*", contracts.JoinPrefix + ".* " + contracts.JoinPrefix, sessions, calloutSubject + " " + calloutQueue, siteCallout + " " + calloutQueue},
		// Nobody waits longer for it. All that it reads of a stream could be answered as well,
		// thousands of heartbeats a second, and each second the server goes through what has
		// not expired.
		answerTime: 20 * time.Second,
	}
}

// SystemPermissions are those of the operator in the system's account: to find the
// connections of devices and to end them, and to have the servers read certificates and
// configuration anew.
func SystemPermissions() Permissions {
	return Permissions{
		Publish: []string{
			"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.KICK",
			"$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.*.RELOAD",
		},
		Subscribe: []string{"_INBOX.>"},
	}
}

// ServerAuth is who may connect to a server.
type ServerAuth struct {
	// OperatorKeys are the public NKeys of operators.
	OperatorKeys []string
	// Issuer is the public key of who signs the answers when the server asks the
	// operator which device may connect, and SystemKeys those of operators in the
	// system's account. Without an issuer the devices are those below.
	Issuer     string
	SystemKeys []string
	// Devices are the public NKeys of devices.
	Devices map[contracts.DeviceID]string
	// TLS is what the server proves itself with; nil is a server in clear, which only
	// who is on the same machine connects to.
	TLS *ServerTLS
	// Cluster is the one that the server is part of; nil for a server by itself.
	Cluster *ServerCluster
	// Sites are the public NKeys of the servers of sites, by the site's name.
	Sites map[string]string
}

// ServerTLS names files on the server's machine: its certificate, with those that lead
// to the authority's, and the key.
type ServerTLS struct {
	CertFile, KeyFile string
	// CAFile holds the authorities that the certificates of the other servers of a cluster
	// are checked against. A server by itself needs none.
	CAFile string
}

// The server's own words, https://docs.nats.io/running-a-nats-service/configuration.
type (
	serverConfig struct {
		// JetStream on, with the limits and the folder of the server's own settings.
		JetStream     string             `json:"jetstream,omitempty"`
		Accounts      map[string]account `json:"accounts"`
		SystemAccount string             `json:"system_account,omitempty"`
		Authorization *authorization     `json:"authorization,omitempty"`
		TLS           *serverTLS         `json:"tls,omitempty"`
		Cluster       *cluster           `json:"cluster,omitempty"`
		LeafNodes     *leafnodes         `json:"leafnodes,omitempty"`
		// NoCache of what subscribes to which subject: it holds a thousand subjects, each
		// device has some of its own, and to put one in stops all the others that look.
		NoCache  bool              `json:"disable_sublist_cache"`
		Metadata map[string]string `json:"server_metadata,omitempty"`
	}
	serverTLS struct {
		CertFile   string `json:"cert_file"`
		KeyFile    string `json:"key_file"`
		MinVersion string `json:"min_version"`
		// Timeout of a handshake, in seconds.
		Timeout int `json:"timeout"`
		// Rate is how many clients may begin a handshake in a second; the others are turned
		// away, and come again.
		Rate int `json:"connection_rate_limit,omitempty"`
	}
	authorization struct {
		Callout authCallout `json:"auth_callout"`
		// Timeout in seconds.
		Timeout int `json:"timeout"`
	}
	authCallout struct {
		Issuer          string   `json:"issuer"`
		Account         string   `json:"account"`
		AuthUsers       []string `json:"auth_users"`
		AllowedAccounts []string `json:"allowed_accounts"`
	}
	account struct {
		JetStream string            `json:"jetstream,omitempty"`
		Limits    *accountLimits    `json:"limits,omitempty"`
		Users     []user            `json:"users"`
		Exports   []map[string]any  `json:"exports,omitempty"`
		Imports   []map[string]any  `json:"imports,omitempty"`
		Mappings  map[string]string `json:"mappings,omitempty"`
	}
	accountLimits struct {
		MaxPayload int `json:"max_payload"`
	}
	user struct {
		NKey string `json:"nkey"`
		// Connections are the kinds that it may make; none is all.
		Connections []string    `json:"allowed_connection_types,omitempty"`
		Permissions permissions `json:"permissions"`
	}
	permissions struct {
		Publish   allow `json:"publish"`
		Subscribe allow `json:"subscribe"`
		// Responses is nil for who may not answer.
		Responses *responses `json:"allow_responses,omitempty"`
	}
	// responses to what is received.
	responses struct {
		Max     int    `json:"max"`
		Expires string `json:"expires"`
	}
	allow struct {
		Allow []string `json:"allow,omitzero"`
		Deny  []string `json:"deny,omitempty"`
	}
)

// ServerConfig is the part of nats-server's configuration that says who may do
// what. Where the server listens and stores is not in it. A key that is not one,
// or that two users share, is an error.
func ServerConfig(a ServerAuth) ([]byte, error) {
	taken := map[string]string{}
	newUser := func(who, key string, p Permissions) (user, error) {
		if !nkeys.IsValidPublicUserKey(key) {
			return user{}, fmt.Errorf("the key %q of %s is not the public NKey of a user (it begins with U)", key, who)
		}
		if other, ok := taken[key]; ok {
			return user{}, fmt.Errorf("%s and %s have the same key %s", other, who, key)
		}
		taken[key] = who
		return user{NKey: key, Permissions: permissions{
			Publish: allow{Allow: p.Publish}, Subscribe: allow{p.Subscribe, p.subscribeDeny},
			Responses: &responses{Max: 1, Expires: cmp.Or(p.answerTime, answerTime).String()},
		}}, nil
	}

	operators := account{JetStream: "enabled", Users: []user{}}
	for _, key := range a.OperatorKeys {
		u, err := newUser("an operator", key, OperatorPermissions())
		if err != nil {
			return nil, err
		}
		operators.Users = append(operators.Users, u)
	}
	devices := account{Users: []user{}, Limits: &accountLimits{MaxPayload: devicePayload}}
	for _, id := range slices.Sorted(maps.Keys(a.Devices)) {
		if _, err := contracts.ParseDeviceID(string(id)); err != nil {
			return nil, err
		}
		u, err := newUser("device "+string(id), a.Devices[id], DevicePermissions(id))
		if err != nil {
			return nil, err
		}
		devices.Users = append(devices.Users, u)
	}

	for _, subject := range said {
		operators.Exports = append(operators.Exports, map[string]any{"service": subject, "threshold": asked(subject).String()})
		devices.Imports = append(devices.Imports, map[string]any{"service": from(AccountOperators, subject)})
	}
	stream := contracts.DesiredStatePrefix + ".>"
	operators.Exports = append(operators.Exports, map[string]any{"stream": stream})
	devices.Imports = append(devices.Imports, map[string]any{"stream": from(AccountOperators, stream)})
	// A command has one answer. What a session brings comes by a subject that has the
	// device's name in it, and not as more answers: how many and for how long those may
	// come is bounded for all devices alike, and forgotten with the connection.
	devices.Exports = []map[string]any{{"service": commands}, {"stream": sessions}}
	operators.Imports = []map[string]any{{"service": from(AccountDevices, commands)}, {"stream": from(AccountDevices, sessions)}}

	config := serverConfig{JetStream: "enabled", Accounts: map[string]account{AccountOperators: operators, AccountDevices: devices}}
	if a.Issuer != "" {
		if len(a.Devices) > 0 {
			return nil, errors.New("with an issuer the operator says which devices may connect: none can be listed")
		}
		if !nkeys.IsValidPublicAccountKey(a.Issuer) {
			return nil, fmt.Errorf("the issuer %q is not the public NKey of an account (it begins with A)", a.Issuer)
		}
		system := account{Users: []user{}}
		for _, key := range a.SystemKeys {
			u, err := newUser("the system's user", key, SystemPermissions())
			if err != nil {
				return nil, err
			}
			system.Users = append(system.Users, u)
		}
		config.Accounts[AccountSystem], config.SystemAccount = system, AccountSystem
		config.Authorization = &authorization{Timeout: int(AuthTimeout / time.Second), Callout: authCallout{
			Issuer: a.Issuer, Account: AccountOperators, AuthUsers: slices.Concat(a.OperatorKeys, a.SystemKeys), AllowedAccounts: []string{AccountDevices},
		}}
	}
	if a.TLS != nil {
		config.TLS = clientTLS(a.TLS)
	}
	if a.Cluster != nil {
		var err error
		if config.Cluster, err = a.Cluster.section(a.TLS); err != nil {
			return nil, err
		}
	}
	if err := config.addSites(a.Sites, a.TLS, newUser); err != nil {
		return nil, err
	}
	return config.encode()
}

// encode writes the configuration, with what holds for every server, and a number of its
// own in it.
func (c serverConfig) encode() ([]byte, error) {
	c.NoCache = true
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	// The server does not know the escapes that keep JSON safe in HTML.
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("write the server's configuration: %w", err)
	}
	c.Metadata = map[string]string{configVersion: fmt.Sprintf("%x", sha256.Sum256(out.Bytes()))}
	out.Reset()
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("write the server's configuration: %w", err)
	}
	return out.Bytes(), nil
}

// clientTLS is how a server speaks with devices and operators.
func clientTLS(t *ServerTLS) *serverTLS {
	out := newServerTLS(t)
	out.Rate = handshakeRate
	return &out
}

func newServerTLS(t *ServerTLS) serverTLS {
	return serverTLS{CertFile: t.CertFile, KeyFile: t.KeyFile, MinVersion: "1.3", Timeout: int(handshakeTimeout / time.Second)}
}

func from(account, subject string) map[string]string {
	return map[string]string{"account": account, "subject": subject}
}
