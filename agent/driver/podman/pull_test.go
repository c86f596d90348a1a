package podman

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nationtech/fleet/agent/reconcile"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/podmantest"
)

// TestPullsWithThePullSecrets has a real podman ask a registry that lets one user in.
func TestPullsWithThePullSecrets(t *testing.T) {
	const user, password = "robot", "the-password-of-the-registry"
	var refused, admitted atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			refused.Add(1)
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		admitted.Add(1)
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound) // it has no images
		}
	}))
	defer registry.Close()
	host := strings.TrimPrefix(registry.URL, "http://")
	p, err := podmantest.Start(t.Context(), podmantest.Options{Name: "pull", InsecureRegistries: []string{host}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	config := `{"auths":{"` + host + `":{"auth":"cm9ib3Q6dGhlLXBhc3N3b3JkLW9mLXRoZS1yZWdpc3RyeQ=="}}}`
	d, err := New(Options{Device: "till", Socket: p.Socket, Unsettled: filepath.Join(t.TempDir(), "unsettled.json"), Logger: slog.New(slog.DiscardHandler), Open: func(*contracts.Sealed) (map[string][]byte, error) {
		return map[string][]byte{"pull/.dockerconfigjson": []byte(config), "odd/.dockerconfigjson": []byte(`{"auths":"` + password)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	pull := func(secrets ...string) error {
		want := &reconcile.Desired{Sealed: &contracts.Sealed{}}
		for _, s := range secrets {
			want.PullSecrets = append(want.PullSecrets, contracts.Secret{Name: s + "/.dockerconfigjson"})
		}
		return d.Do(t.Context(), want, reconcile.Step{Kind: reconcile.Pull, Image: host + "/shop/app:1"})
	}
	if err := pull(); err == nil || admitted.Load() > 0 || refused.Load() == 0 {
		t.Errorf("without secrets: %v, refused %d times, admitted %d times", err, refused.Load(), admitted.Load())
	}
	if err := pull("pull"); err == nil || admitted.Load() == 0 {
		t.Errorf("with the secret: %v, admitted %d times", err, admitted.Load())
	} else if strings.Contains(err.Error(), password) {
		t.Errorf("the error says the password: %v", err)
	}
	err = pull("odd")
	if f := reconcile.AsFailure(err, ""); err == nil || f.Reason != reconcile.ReasonSecret || strings.Contains(f.Message, password) {
		t.Errorf("with one that is none: %v", err)
	}
}
