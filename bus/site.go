package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleet/contracts"
)

// SitePort is where the servers of sites connect to.
const SitePort = 7422

// siteCallout is where the question of a site's server arrives. It is another subject than
// that of the operator's own servers, so that the operator knows which of them asks.
const siteCallout = "fleet.callout"

// siteLasts is for how long a device is let in at a site, give or take a quarter. The
// operator can't disconnect anybody there: who is shut out is when it has to ask again.
const siteLasts = time.Hour

type (
	leafnodes struct {
		Port    int        `json:"port,omitempty"`
		TLS     *serverTLS `json:"tls,omitempty"`
		Remotes []remote   `json:"remotes,omitempty"`
	}
	remote struct {
		URLs    []string  `json:"urls"`
		Account string    `json:"account"`
		NKey    string    `json:"nkey"`
		TLS     remoteTLS `json:"tls"`
	}
	remoteTLS struct {
		CAFile     string `json:"ca_file,omitempty"`
		MinVersion string `json:"min_version"`
	}
)

// sitePrefix begins the subjects under which a site's server hands on what its devices
// say. The server keeps the subjects of buckets from the connection of a leaf node
// (https://docs.nats.io/running-a-nats-service/configuration/leafnodes/jetstream_leafnodes),
// and under a name of its own a site hears nothing of what devices elsewhere say.
const sitePrefix = "fleet.site"

// said are the services that devices ask.
var said = []string{
	contracts.BucketDeviceState.Subject("state.*.*"), contracts.BucketDeviceInfo.Subject("info.*"), contracts.BucketDeviceHeartbeat.Subject("heartbeat.*"),
	contracts.SnapshotPrefix + ".*", contracts.JoinPrefix + ".*",
}

// asked is how long a device waits for the answer of a service, and the server for what
// it keeps of the question. Each subscription that ends with a connection is held against
// all those kept: with the server's own two minutes, a fleet that asks in vain and then
// loses its connections costs it the square of the fleet.
func asked(subject string) time.Duration {
	if strings.HasPrefix(subject, contracts.JoinPrefix+".") {
		return joinTimeout
	}
	return Timeout
}

// viaSite is under which subject a site's server hands one on.
func viaSite(site, subject string) string {
	return sitePrefix + "." + site + "." + strings.TrimPrefix(subject, "$")
}

// atSite are the same permissions at a site's server, which holds them against what it has
// made of a subject. Whether it may hand that on under a site's name the operator's servers
// decide.
func (p Permissions) atSite() Permissions {
	publish := make([]string, 0, len(p.Publish))
	for _, subject := range p.Publish {
		publish = append(publish, viaSite("*", subject))
	}
	p.Publish = publish
	return p
}

// sitePermissions are those of a site's server: what all devices may together. Names of
// devices have nothing of their site in them, so nothing narrower can be said.
func sitePermissions(site string, sites map[string]string) Permissions {
	p := Permissions{
		// The last is where answers to the operator's commands go, under names that nobody
		// guesses. That a device may answer what it was asked the server does not do for a
		// leaf node.
		Publish: []string{calloutSubject, viaSite(site, ">"), "_R_.>"},
		// A server hears of nobody who listens to what it may not subscribe to itself.
		Subscribe:     []string{">"},
		subscribeDeny: []string{"$KV.>", contracts.SnapshotPrefix + ".>", contracts.JoinPrefix + ".>", contracts.SessionPrefix + ".>"},
	}
	for _, other := range slices.Sorted(maps.Keys(sites)) {
		if other != site {
			p.subscribeDeny = append(p.subscribeDeny, viaSite(other, ">"))
		}
	}
	return p
}

// addSites has servers of sites be let in, which ask the operator over that connection.
func (c *serverConfig) addSites(sites map[string]string, tls *ServerTLS, newUser func(who, key string, p Permissions) (user, error)) error {
	if len(sites) == 0 {
		return nil
	}
	if c.Authorization == nil || tls == nil {
		return errors.New("sites need an operator that says which devices may connect, and certificates")
	}
	operators, devices := c.Accounts[AccountOperators], c.Accounts[AccountDevices]
	operators.Exports = append(operators.Exports, map[string]any{"service": siteCallout})
	devices.Imports = append(devices.Imports, map[string]any{"service": from(AccountOperators, siteCallout), "to": calloutSubject})
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		if err := checkSite(name); err != nil {
			return err
		}
		u, err := newUser("site "+name, sites[name], sitePermissions(name, sites))
		if err != nil {
			return err
		}
		u.Connections = []string{jwt.ConnectionTypeLeafnode}
		devices.Users = append(devices.Users, u)
		c.Authorization.Callout.AuthUsers = append(c.Authorization.Callout.AuthUsers, sites[name])
		for _, subject := range said {
			devices.Imports = append(devices.Imports, map[string]any{"service": from(AccountOperators, subject), "to": viaSite(name, subject)})
		}
		devices.Exports = append(devices.Exports, map[string]any{"stream": viaSite(name, sessions)})
		operators.Imports = append(operators.Imports, map[string]any{"stream": from(AccountDevices, viaSite(name, sessions)), "to": sessions})
	}
	c.Accounts[AccountOperators], c.Accounts[AccountDevices] = operators, devices
	c.LeafNodes = &leafnodes{Port: SitePort, TLS: new(newServerTLS(tls))}
	return nil
}

// checkSite holds the name of a site to what may be part of a subject.
func checkSite(name string) error {
	if _, err := contracts.ParseDeviceID(name); err != nil {
		return fmt.Errorf("the name of a site is a DNS label, as montreal: %w", err)
	}
	return nil
}

// SiteOptions are what the server of a site is configured with.
type SiteOptions struct {
	// Name of the site.
	Name string
	// Hub are the URLs of the operator's servers, at SitePort.
	Hub []string
	// Issuer signs the operator's answers, see IssuerOf.
	Issuer string
	// Seed is that of the site's NKey, which the operator's servers know the public half of.
	Seed []byte
	// TLS is what the site's server proves itself with to its devices, and what the
	// operator's servers are checked against; no CAFile is the system's.
	TLS ServerTLS
}

// SiteConfig is the configuration of a site's server. It has the site's seed in it.
func SiteConfig(o SiteOptions) ([]byte, error) {
	if err := checkSite(o.Name); err != nil {
		return nil, err
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(o.Seed))
	if err != nil {
		return nil, fmt.Errorf("the site's seed: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("the site's seed: %w", err)
	}
	switch {
	case !nkeys.IsValidPublicUserKey(public):
		return nil, errors.New("the site's seed is not that of a user (it begins with SU)")
	case !nkeys.IsValidPublicAccountKey(o.Issuer):
		return nil, fmt.Errorf("the issuer %q is not the public NKey of an account (it begins with A)", o.Issuer)
	case len(o.Hub) == 0:
		return nil, errors.New("where the operator's servers are is missing")
	}
	for _, hub := range o.Hub {
		if clear, err := staysHere(hub); err != nil || clear {
			return nil, fmt.Errorf("the operator's server %q is no URL that begins with tls://", hub)
		}
	}
	mappings := map[string]string{}
	for _, subject := range append([]string{sessions}, said...) {
		to, n := viaSite(o.Name, subject), 0
		for strings.Contains(to, "*") {
			n++
			to = strings.Replace(to, "*", fmt.Sprintf("{{wildcard(%d)}}", n), 1)
		}
		mappings[subject] = to
	}
	nobody := permissions{Publish: allow{Deny: []string{">"}}, Subscribe: allow{Deny: []string{">"}}}
	return serverConfig{
		Accounts: map[string]account{
			// The server wants a user to be there that it does not ask for. It is the site
			// itself, which may do nothing here.
			AccountDevices: {Limits: &accountLimits{MaxPayload: devicePayload}, Users: []user{{NKey: public, Permissions: nobody}}, Mappings: mappings},
			AccountSystem:  {Users: []user{}},
		},
		SystemAccount: AccountSystem,
		Authorization: &authorization{Timeout: int(AuthTimeout / time.Second), Callout: authCallout{
			Issuer: o.Issuer, Account: AccountDevices, AuthUsers: []string{public}, AllowedAccounts: []string{AccountDevices},
		}},
		TLS: clientTLS(&o.TLS),
		LeafNodes: &leafnodes{Remotes: []remote{{
			URLs: o.Hub, Account: AccountDevices, NKey: string(bytes.TrimSpace(o.Seed)), TLS: remoteTLS{CAFile: o.TLS.CAFile, MinVersion: "1.3"},
		}}},
	}.encode()
}

// IssuerOf is the public key of who signs the operator's answers, out of a configuration of
// ServerConfig.
func IssuerOf(config []byte) (string, error) {
	var c serverConfig
	if err := json.Unmarshal(config, &c); err != nil || c.Authorization == nil {
		return "", errors.New("it is no configuration that fleet-operator setup has made")
	}
	return c.Authorization.Callout.Issuer, nil
}
