package setup

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/pki"
)

const (
	// lookAgain is how often at least certificates are looked at: somebody else may have
	// changed them.
	lookAgain = 5 * time.Minute
	// reachesVolume is how long a changed Secret takes at most until it is in the files of
	// a pod that has it as a volume.
	reachesVolume = 2 * time.Minute
)

// Keeper keeps certificates fresh, and has the NATS servers read what has changed. It is
// a manager's Runnable, of the leader.
type Keeper struct {
	// Client writes, and Reader reads what is there at this moment.
	Client    client.Client
	Reader    client.Reader
	Namespace string
	Lifetimes pki.Lifetimes
	Clock     clock.Clock
	// System is a connection to the system account.
	System *nats.Conn
	Log    *slog.Logger
	// ReachesVolume is how long to wait before NATS servers read what has changed; 0 is
	// two minutes.
	ReachesVolume time.Duration
	// Metrics is where the metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
}

// NeedLeaderElection says that one replica does it.
func (k *Keeper) NeedLeaderElection() bool { return true }

// Start keeps until the context ends.
func (k *Keeper) Start(ctx context.Context) error {
	if k.ReachesVolume == 0 {
		k.ReachesVolume = reachesVolume
	}
	c := &certificates{client: k.Client, reader: k.Reader, namespace: k.Namespace, now: k.Clock.Now, lifetimes: k.Lifetimes, report: func(line string, changed bool) {
		if changed {
			k.Log.Info(line)
		}
	}}
	expiry := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fleet_certificate_expiry_timestamp_seconds",
		Help: "When a certificate expires: that in a Secret, or that which a NATS server presents.",
	}, []string{"kind", "name"})
	if k.Metrics != nil {
		if err := k.Metrics.Register(expiry); err != nil {
			return err
		}
		defer k.Metrics.Unregister(expiry)
	}
	last := ""
	complain := func(err error) {
		if err != nil && err.Error() != last && ctx.Err() == nil {
			k.Log.Error("certificates", "error", err)
			last = err.Error()
		}
	}
	pending := reloads{patience: k.ReachesVolume}
	for {
		wake := k.Clock.Now().Add(lookAgain)
		due, err := c.ensure(ctx, false, []endpoint{{secret: SecretNATSTLS}, {secret: SecretLiveTLS}})
		complain(err)
		if err == nil && !due.IsZero() && due.Before(wake) {
			wake = due
		}
		again, err := k.reload(ctx, &pending, expiry)
		complain(err)
		if !again.IsZero() && again.Before(wake) {
			wake = again
		}
		// What is due already has failed, or is due again at once.
		timer := k.Clock.NewTimer(max(wake.Sub(k.Clock.Now()), k.ReachesVolume/8))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// reload has the servers that do not run with what the Secrets hold read them, and
// returns when to look at them again.
func (k *Keeper) reload(ctx context.Context, pending *reloads, expiry *prometheus.GaugeVec) (time.Time, error) {
	s := secrets{client: k.Client, reader: k.Reader, namespace: k.Namespace}
	expiry.Reset()
	var want bus.Server
	for _, name := range []string{SecretNATSTLS, SecretLiveTLS} {
		secret, err := s.get(ctx, name)
		if err != nil {
			return time.Time{}, err
		}
		if secret == nil {
			continue
		}
		chain, err := pki.ParseCertificates(secret.Data[pki.CertificateKey])
		if err != nil {
			return time.Time{}, fmt.Errorf("secret %s/%s, %s: %w", k.Namespace, name, pki.CertificateKey, err)
		}
		expiry.WithLabelValues("secret", name).Set(float64(chain[0].NotAfter.Unix()))
		if name == SecretNATSTLS {
			want.CertificateUntil = chain[0].NotAfter
		}
	}
	config, err := s.get(ctx, SecretNATS)
	if err != nil {
		return time.Time{}, err
	}
	if config != nil {
		want.Config = bus.ConfigVersion(config.Data[ConfigFile])
	}
	if !k.System.IsConnected() {
		// It says itself why.
		return time.Time{}, nil
	}
	servers, err := bus.Servers(ctx, k.System)
	if err != nil {
		return time.Time{}, err
	}
	for _, v := range servers {
		if !v.CertificateUntil.IsZero() {
			expiry.WithLabelValues("nats", v.Name).Set(float64(v.CertificateUntil.Unix()))
		}
	}
	now := k.Clock.Now()
	step := pending.next(servers, want, now)
	if step.give != "" {
		k.Log.Error("a NATS server does not run with what the Secrets hold, and reading it again does not help: restart it (kubectl rollout restart statefulset)", "server", step.give)
	}
	if step.reload == nil {
		return step.again, nil
	}
	k.Log.Info("having a NATS server read its certificate and configuration again; its devices connect anew", "server", step.reload.Name)
	return step.again, bus.Reload(ctx, k.System, *step.reload)
}
