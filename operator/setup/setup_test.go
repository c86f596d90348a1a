package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/bus"
	"github.com/nationtech/fleet/pki"
)

const namespace = "fleet-system"

// admin reaches a real API server, on which manifests/setup is installed, with every
// right.
var admin *rest.Config

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS is not set: these tests need a real kube-apiserver; run `make test`")
		return 1
	}
	api := &envtest.Environment{}
	defer func() {
		if err := api.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	var err error
	if admin, err = api.Start(); err == nil {
		err = install()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// install applies the namespace and what setup may do.
func install() error {
	c, err := client.New(admin, client.Options{})
	if err != nil {
		return err
	}
	if err := c.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	for _, dir := range []string{"setup", "live"} {
		resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../../manifests", dir))
		if err != nil {
			return err
		}
		for _, r := range resources.Resources() {
			raw, err := r.AsYAML()
			if err != nil {
				return err
			}
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(raw, &o.Object); err != nil {
				return err
			}
			if err := c.Create(context.Background(), o); err != nil {
				return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
			}
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until look returns "", and says what it last returned if it never
// does.
func eventually(t testing.TB, look func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		last := look()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: %s", last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// as is a client with the rights of a ServiceAccount; none is every right.
func as(t testing.TB, account string) client.Client {
	t.Helper()
	config := rest.CopyConfig(admin)
	config.QPS = -1
	if account != "" {
		config.Impersonate = rest.ImpersonationConfig{
			UserName: "system:serviceaccount:" + namespace + ":" + account, Groups: []string{"system:serviceaccounts", "system:authenticated"},
		}
	}
	c, err := client.New(config, client.Options{})
	must(t, err)
	return c
}

// clean removes every Secret of the namespace, at once and at the end.
func clean(t testing.TB) {
	t.Helper()
	remove := func() {
		must(t, as(t, "").DeleteAllOf(context.Background(), &corev1.Secret{}, client.InNamespace(namespace)))
	}
	remove()
	t.Cleanup(remove)
}

// up runs setup with its own rights, and returns what it has reported.
func up(t testing.TB, change ...func(*Options)) ([]string, error) {
	t.Helper()
	var lines []string
	o := Options{
		Client: as(t, "fleet-setup"), Namespace: namespace, NATSTLSDir: "/etc/nats-tls", Clock: clock.RealClock{}, Lifetimes: pki.Usual,
		Report: func(line string, _ bool) { lines = append(lines, line) },
	}
	for _, c := range change {
		c(&o)
	}
	err := Run(t.Context(), o)
	return lines, err
}

func secret(t testing.TB, name string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	must(t, as(t, "").Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, s))
	return s
}

func leaf(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	chain, err := pki.ParseCertificates(secret(t, name).Data[pki.CertificateKey])
	must(t, err)
	return chain[0]
}

func caBundle(t testing.TB) string {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("apiregistration.k8s.io/v1")
	o.SetKind("APIService")
	must(t, as(t, "").Get(t.Context(), client.ObjectKey{Name: "v1alpha1.live.fleet.nationtech.io"}, o))
	bundle, _, err := unstructured.NestedString(o.Object, "spec", "caBundle")
	must(t, err)
	return bundle
}

var all = []string{SecretSeed, SecretAuthority, SecretNATSTLS, SecretLiveTLS, SecretNATS}

func TestSetupMakesWhatIsMissingOnce(t *testing.T) {
	clean(t)
	lines, err := up(t)
	must(t, err)
	for _, name := range all {
		if !slices.Contains(lines, "secret "+name+": made") {
			t.Errorf("%s is not made: %q", name, lines)
		}
	}
	before := map[string]string{}
	for _, name := range all {
		before[name] = secret(t, name).ResourceVersion
	}
	if got := secret(t, SecretNATSTLS).Type; got != corev1.SecretTypeTLS {
		t.Errorf("the NATS server's certificate is in a secret of type %s", got)
	}
	if got, want := caBundle(t), secret(t, SecretLiveTLS).Data[pki.TrustedKey]; got != encode(want) {
		t.Errorf("the API server checks the live API against %q, want %q", got, encode(want))
	}
	lines, err = up(t)
	must(t, err)
	for _, name := range all {
		if secret(t, name).ResourceVersion != before[name] {
			t.Errorf("%s is changed by a second run: %q", name, lines)
		}
	}

	lines, err = up(t, func(o *Options) { o.NATSNames = []string{"nats.example.com", "10.1.2.3"} })
	must(t, err)
	if names := pki.Names(leaf(t, SecretNATSTLS)); !slices.Contains(names, "nats.example.com") || !slices.Contains(names, "10.1.2.3") || !slices.Contains(names, "fleet-nats.fleet-system.svc") {
		t.Errorf("the certificate is for %q: %q", names, lines)
	}
	if secret(t, SecretLiveTLS).ResourceVersion != before[SecretLiveTLS] || secret(t, SecretSeed).ResourceVersion != before[SecretSeed] {
		t.Error("another name for NATS has changed other things")
	}
}

func encode(b []byte) string {
	o, err := yaml.Marshal(map[string][]byte{"b": b})
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(strings.TrimPrefix(string(o), "b: "))
}

func TestSetupLeavesWhatSomebodyElseHasMade(t *testing.T) {
	clean(t)
	_, err := up(t)
	must(t, err)
	data := map[string]map[string][]byte{}
	for _, name := range all {
		data[name] = secret(t, name).Data
	}
	// Of somebody else the same, but nothing of it would be made like that here.
	other, _, err := pki.Ring{}.Advance(time.Now(), pki.Usual)
	must(t, err)
	certificate, key, err := other.Issue([]string{"elsewhere"}, time.Now(), pki.Usual)
	must(t, err)
	data[SecretNATSTLS] = map[string][]byte{pki.CertificateKey: certificate, pki.PrivateKey: key}
	data[SecretLiveTLS] = maps.Clone(data[SecretNATSTLS])
	data[SecretNATS] = map[string][]byte{ConfigFile: []byte("port: 4222\n")}
	c := as(t, "")
	for _, tt := range []struct {
		name string
		mark func(*corev1.Secret)
	}{
		{"without a label", func(*corev1.Secret) {}},
		{"of Helm", func(s *corev1.Secret) { s.Labels = map[string]string{labelManagedBy: "Helm"} }},
		{"taken over by cert-manager", func(s *corev1.Secret) {
			s.Labels = map[string]string{labelManagedBy: manager}
			s.Annotations = map[string]string{"cert-manager.io/certificate-name": "x"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clean(t)
			before := map[string]string{}
			for _, name := range all {
				s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data[name]}
				tt.mark(s)
				must(t, c.Create(t.Context(), s))
				before[name] = s.ResourceVersion
			}
			lines, err := up(t)
			must(t, err)
			for _, name := range all {
				if secret(t, name).ResourceVersion != before[name] {
					t.Errorf("%s is changed: %q", name, lines)
				}
			}
		})
	}
	t.Run("an authority signs", func(t *testing.T) {
		clean(t)
		text, err := other.Encode()
		must(t, err)
		delete(text, pki.TrustedKey)
		must(t, c.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: SecretAuthority}, Data: text}))
		_, err = up(t)
		must(t, err)
		must(t, leaf(t, SecretNATSTLS).CheckSignatureFrom(other.Current.Certificate))
		if got := secret(t, SecretNATSTLS).Data[pki.TrustedKey]; !bytes.Equal(got, text[pki.CertificateKey]) {
			t.Errorf("servers are checked against %s", got)
		}
	})
	t.Run("all certificates", func(t *testing.T) {
		clean(t)
		_, err := up(t, func(o *Options) { o.ExternalCertificates = true })
		must(t, err)
		for _, name := range []string{SecretAuthority, SecretNATSTLS, SecretLiveTLS} {
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
				t.Errorf("%s is made: %v", name, err)
			}
		}
		secret(t, SecretNATS)
	})
}

func TestSetupSaysWhatCantBeRead(t *testing.T) {
	for name, want := range map[string]string{SecretSeed: "fleet-operator, operator.nk: the operator's seed is no NKey seed", SecretAuthority: "fleet-ca: tls.crt and tls.key: no certificate as PEM"} {
		clean(t)
		must(t, as(t, "").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{SeedFile: []byte("x"), pki.CertificateKey: []byte("x")},
		}))
		if _, err := up(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestManySetupsAtOnceAgree(t *testing.T) {
	clean(t)
	var running sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		running.Go(func() {
			// One that has lost is run again, as a Job is.
			for range 5 {
				_, err := up(t)
				if err == nil || !apierrors.IsAlreadyExists(err) {
					errs <- err
					return
				}
			}
			errs <- errors.New("lost five times")
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	chain := leaf(t, SecretNATSTLS)
	ring, err := pki.ParseRing(secret(t, SecretAuthority).Data)
	must(t, err)
	must(t, chain.CheckSignatureFrom(ring.Current.Certificate))
}

func TestNobodyMayMoreThanTheyNeed(t *testing.T) {
	clean(t)
	_, err := up(t)
	must(t, err)
	must(t, as(t, "").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "other"}}))
	for account, forbidden := range map[string]map[string]func(client.Client) error{
		"fleet-setup": {
			"read another secret": func(c client.Client) error { return read(t, c, "other") },
			"list secrets": func(c client.Client) error {
				return c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(namespace))
			},
			"change the seed":      func(c client.Client) error { return c.Update(t.Context(), secret(t, SecretSeed)) },
			"delete the authority": func(c client.Client) error { return c.Delete(t.Context(), secret(t, SecretAuthority)) },
			"make one somewhere else": func(c client.Client) error {
				return c.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}})
			},
		},
		"fleet-operator": {
			"read the seed":     func(c client.Client) error { return read(t, c, SecretSeed) },
			"change the config": func(c client.Client) error { return c.Update(t.Context(), secret(t, SecretNATS)) },
			"make a secret": func(c client.Client) error {
				return c.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "x"}})
			},
		},
	} {
		for what, do := range forbidden {
			if err := do(as(t, account)); !apierrors.IsForbidden(err) {
				t.Errorf("may %s %s? %v", account, what, err)
			}
		}
	}
}

func read(t testing.TB, c client.Client, name string) error {
	return c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &corev1.Secret{})
}

// volume is a pod's, of the secrets that a NATS server reads.
type volume struct{ dir string }

func (v volume) sync(t testing.TB) {
	t.Helper()
	for _, name := range []string{SecretNATSTLS, SecretNATS, SecretSeed} {
		for file, content := range secret(t, name).Data {
			must(t, os.WriteFile(filepath.Join(v.dir, file), content, 0o600))
		}
	}
}

// TestTheKeeperRenewsUnderARunningServer begins eight months ago, with what setup made
// then, and comes to today. The operator's rights are those that are shipped.
func TestTheKeeperRenewsUnderARunningServer(t *testing.T) {
	clean(t)
	today := time.Now()
	ago := clocktesting.NewFakeClock(today.Add(-245 * 24 * time.Hour))
	v := volume{t.TempDir()}
	_, err := up(t, func(o *Options) { o.Clock, o.NATSTLSDir = ago, v.dir })
	must(t, err)
	v.sync(t)
	main := filepath.Join(v.dir, "server.conf")
	must(t, os.WriteFile(main, fmt.Appendf(nil, "listen: \"127.0.0.1:-1\"\nstore_dir: %q\nserver_name: nats-0\ninclude %q\n", t.TempDir(), ConfigFile), 0o600))
	o, err := server.ProcessConfigFile(main)
	must(t, err)
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o)
	must(t, err)
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server is not ready after 10 s")
	}
	keys, err := bus.ReadKeys(filepath.Join(v.dir, SeedFile))
	must(t, err)
	system, err := bus.Connect(bus.Options{
		URL: fmt.Sprintf("tls://localhost:%d", s.Addr().(*net.TCPAddr).Port), Key: keys.System, CAFile: filepath.Join(v.dir, pki.TrustedKey), Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	defer system.Close()
	eventually(t, func() string {
		if !system.IsConnected() {
			return fmt.Sprint("the operator is not connected: ", system.LastError())
		}
		return ""
	})
	system.SetDisconnectErrHandler(func(_ *nats.Conn, err error) {
		if err != nil {
			t.Errorf("the operator has lost its connection: %v", err)
		}
	})

	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	c := as(t, "fleet-operator")
	k := &Keeper{Client: c, Reader: c, Namespace: namespace, Lifetimes: pki.Usual, Clock: ago, System: system, Metrics: metrics, Log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Start(ctx) }()
	defer func() {
		cancel()
		must(t, <-done)
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	state := func() bus.Server {
		all, err := bus.Servers(t.Context(), system)
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("%d servers answer", len(all))
		}
		return all[0]
	}
	loaded := func() time.Time {
		varz, err := s.Varz(nil)
		must(t, err)
		return varz.ConfigLoadTime
	}

	before, started := leaf(t, SecretNATSTLS), loaded()
	eventually(t, func() string {
		if !ago.HasWaiters() {
			return "the keeper does not wait"
		}
		return ""
	})
	if leaf(t, SecretNATSTLS).SerialNumber.Cmp(before.SerialNumber) != 0 {
		t.Fatal("a fresh certificate is renewed")
	}
	ago.SetTime(today)
	eventually(t, func() string {
		if leaf(t, SecretNATSTLS).SerialNumber.Cmp(before.SerialNumber) == 0 || leaf(t, SecretLiveTLS).NotAfter.Before(today.Add(300*24*time.Hour)) {
			return "certificates of which two thirds of the life are over are not renewed"
		}
		return ""
	})
	if !slices.Equal(pki.Names(before), pki.Names(leaf(t, SecretNATSTLS))) {
		t.Errorf("a renewed certificate is for %q", pki.Names(leaf(t, SecretNATSTLS)))
	}
	// The files of the pod change before the server is to read them.
	if !loaded().Equal(started) {
		t.Error("the server reads its files at once, before they can have changed")
	}
	v.sync(t)
	fresh := leaf(t, SecretNATSTLS)
	eventually(t, func() string {
		if ago.HasWaiters() {
			ago.Step(time.Minute)
		}
		if got := state().CertificateUntil; !got.Equal(fresh.NotAfter) {
			return fmt.Sprintf("the server presents a certificate until %v, want %v", got, fresh.NotAfter)
		}
		return ""
	})
	eventually(t, func() string {
		families, err := metrics.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "fleet_certificate_expiry_timestamp_seconds" && m.Label[1].GetValue() == "nats-0" && int64(m.Gauge.GetValue()) == fresh.NotAfter.Unix() {
					return ""
				}
			}
		}
		if ago.HasWaiters() {
			ago.Step(time.Minute)
		}
		return fmt.Sprint("no metric says when the server's certificate expires: ", families)
	})
}
