// Package setup makes what a fleet needs before its operator and its NATS server can
// start, and keeps the certificates among it fresh. It makes what is missing, renews what
// it has made, and leaves alone what somebody else has.
package setup

import (
	"context"
	"fmt"
	"path"

	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/pki"
)

// The Secrets of a fleet, and the files in them.
const (
	// SecretSeed holds the operator's seed, of which all its keys are made.
	SecretSeed = "fleet-operator"
	SeedFile   = "operator.nk"
	// SecretNATS holds the NATS server's configuration.
	SecretNATS = "fleet-nats"
	ConfigFile = "fleet.conf"
	// SecretAuthority holds the authority that signs the certificates of servers, as
	// pki.Ring is kept.
	SecretAuthority = "fleet-ca"
	// SecretNATSTLS and SecretLiveTLS hold the certificates of the NATS server and of the
	// live API, as tls.crt, tls.key and ca.crt.
	SecretNATSTLS = "fleet-nats-tls"
	SecretLiveTLS = "fleet-operator-live-tls"
)

// Services that the servers are found under.
const (
	serviceNATS = "fleet-nats"
	// serviceNodes is the headless one, which gives each NATS server a name of its own.
	serviceNodes = "fleet-nats-nodes"
	serviceLive  = "fleet-operator-live"
)

// Report takes a line for each object, and whether it has changed.
type Report func(line string, changed bool)

// Options of Run.
type Options struct {
	Client    client.Client
	Namespace string
	// NATSNames are DNS names and IP addresses under which devices find the NATS server,
	// beside those of its Service.
	NATSNames []string
	// NATSServers is how many NATS servers there are; more than one are a cluster.
	NATSServers int
	// NATSSites are the public NKeys of the servers of sites, by the site's name.
	NATSSites map[string]string
	// NATSTLSDir is where the NATS server has its certificate.
	NATSTLSDir string
	// ExternalCertificates leaves every certificate to somebody else, such as
	// cert-manager.
	ExternalCertificates bool
	Clock                clock.PassiveClock
	Lifetimes            pki.Lifetimes
	Report               Report
}

// Run makes what is missing. It may be run at any time, and again after it has failed.
func Run(ctx context.Context, o Options) error {
	s := secrets{client: o.Client, namespace: o.Namespace, report: o.Report, create: true}
	keys, err := ensureSeed(ctx, s)
	if err != nil {
		return err
	}
	tls := &bus.ServerTLS{CertFile: path.Join(o.NATSTLSDir, pki.CertificateKey), KeyFile: path.Join(o.NATSTLSDir, pki.PrivateKey)}
	names := append(serviceNames(serviceNATS, o.Namespace), o.NATSNames...)
	var cluster *bus.ServerCluster
	if o.NATSServers > 1 {
		tls.CAFile = path.Join(o.NATSTLSDir, pki.TrustedKey)
		cluster = &bus.ServerCluster{Hosts: nodes(o.NATSServers)}
		names = append(names, cluster.Hosts...)
	}
	if o.ExternalCertificates {
		o.Report("certificates: left to somebody else", false)
	} else {
		c := &certificates{client: o.Client, reader: o.Client, namespace: o.Namespace, now: o.Clock.Now, lifetimes: o.Lifetimes, report: o.Report}
		if _, err := c.ensure(ctx, true, []endpoint{
			{SecretNATSTLS, names},
			{SecretLiveTLS, serviceNames(serviceLive, o.Namespace)},
		}); err != nil {
			return err
		}
	}
	config, err := keys.ServerConfig(tls, cluster, o.NATSSites)
	if err != nil {
		return err
	}
	existing, err := s.get(ctx, SecretNATS)
	if err != nil {
		return err
	}
	return s.put(ctx, existing, SecretNATS, corev1.SecretTypeOpaque, map[string][]byte{ConfigFile: config})
}

// serviceNames are those that a Service is found under in its cluster, and on the machine
// itself.
func serviceNames(service, namespace string) []string {
	in := service + "." + namespace
	return []string{service, in, in + ".svc", in + ".svc.cluster.local", "localhost", "127.0.0.1", "::1"}
}

// nodes are the names of a cluster's servers: those that its StatefulSet and the headless
// Service give them.
func nodes(count int) []string {
	out := make([]string, count)
	for n := range out {
		out[n] = fmt.Sprintf("%s-%d.%s", serviceNATS, n, serviceNodes)
	}
	return out
}

// ensureSeed returns the operator's keys. A seed that there is is never changed: every
// device has pinned what is made of it.
func ensureSeed(ctx context.Context, s secrets) (*bus.Keys, error) {
	existing, err := s.get(ctx, SecretSeed)
	if err != nil {
		return nil, err
	}
	if existing != nil {
		keys, err := bus.KeysOf(existing.Data[SeedFile])
		if err != nil {
			return nil, fmt.Errorf("secret %s/%s, %s: %w", s.namespace, SecretSeed, SeedFile, err)
		}
		s.say(SecretSeed, "is there", false)
		return keys, nil
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make the operator's seed: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("make the operator's seed: %w", err)
	}
	keys, err := bus.KeysOf(seed)
	if err != nil {
		return nil, err
	}
	return keys, s.put(ctx, nil, SecretSeed, corev1.SecretTypeOpaque, map[string][]byte{SeedFile: append(seed, '\n')})
}
