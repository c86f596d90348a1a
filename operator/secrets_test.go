package operator_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/test/simulated"
)

func (f *fleet) secret(name string, data map[string]string) *corev1.Secret {
	f.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, StringData: data}
	must(f.T, f.client.Create(f.Context(), s))
	return s
}

// withSecrets has a Deployment refer to the Secret creds in every way there is.
func withSecrets(d *v1alpha1.Deployment) {
	p := d.Spec.Score.Podman
	p.Containers[0].Env = []v1alpha1.EnvVar{{Name: "PASSWORD", ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.SecretKeyRef{Name: "creds", Key: "password"}}}}
	p.Containers[0].EnvFrom = []v1alpha1.EnvFromSource{{Prefix: "ALL_", SecretRef: &v1alpha1.SecretRef{Name: "creds"}}}
	p.Volumes = []v1alpha1.Volume{{Name: "files", Secret: &v1alpha1.SecretVolume{SecretName: "creds"}}}
	p.Containers[0].VolumeMounts = []v1alpha1.VolumeMount{{Name: "files", MountPath: "/etc/creds"}}
	p.ImagePullSecrets = []v1alpha1.PullSecretRef{{Name: "pull"}}
}

// stalled reports whether a Deployment is for a reason, and says so.
func stalled(d *v1alpha1.Deployment, reason, message string) bool {
	c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionStalled)
	return c != nil && c.Reason == reason && strings.Contains(c.Message, message)
}

// opens is empty when the device can open the secret and it is this.
func opens(d *sim, deployment, slot, want string) string {
	opened, err := d.Open(deployment)
	if err != nil {
		return fmt.Sprintf("%s: %v", d.id, err)
	}
	if got := string(opened[slot]); got != want {
		return fmt.Sprintf("%s has %q for %s, want %q", d.id, got, slot, want)
	}
	return ""
}

// nowhere fails when a file of the broker's has one of the secrets, in the clear or as
// JSON writes bytes.
func (f *fleet) nowhere(secrets ...string) {
	f.Helper()
	files := 0
	must(f.T, filepath.WalkDir(f.store, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			// The server makes and removes files meanwhile.
			return ignoreGone(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return ignoreGone(err)
		}
		files++
		for _, s := range secrets {
			for _, form := range [][]byte{[]byte(s), encoded(s)} {
				if bytes.Contains(data, form) {
					f.Errorf("%s has the secret %q", path, s)
				}
			}
		}
		return nil
	}))
	if files == 0 {
		f.Error("the broker has no files")
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// encoded is bytes as JSON has them, without the end that depends on what follows.
func encoded(s string) []byte {
	data, err := contracts.Encode(contracts.DesiredState{Deployment: "a", Namespace: "a", Revision: "a", Digest: "0123456789abcdef", Issued: 1,
		Score: contracts.ReconcileScore{Podman: &contracts.PodmanScore{RestartPolicy: "Always",
			Containers: []contracts.Container{{Name: "a", Image: "a", PullPolicy: "Always"}},
			Volumes:    []contracts.Volume{{Name: "a", Files: &[]contracts.File{{Path: "a", Data: []byte(s)}}}}}}})
	if err != nil {
		panic(err)
	}
	_, after, _ := bytes.Cut(data, []byte(`"data":"`))
	before, _, _ := bytes.Cut(after, []byte(`"`))
	return before[:len(before)-4]
}

func TestSecretsReachEachDeviceAndNobodyElse(t *testing.T) {
	const first, second, key = "a-password-of-the-first-kind", "another-password-of-the-second", "-----BEGIN PRIVATE KEY-----abc"
	f := newFleet(t)
	f.secret("creds", map[string]string{"password": first, "tls.key": key})
	f.secret("pull", map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"registry.example":{"auth":"dXNlcjpwYXNz"}}}`})
	a, b := f.device(simulated.Running), f.device(simulated.Running)
	f.deploy("app", withSecrets)
	before := f.complete("app", 2)
	for _, d := range []*sim{a, b} {
		for slot, want := range map[string]string{"creds/password": first, "creds/tls.key": key, "pull/.dockerconfigjson": `{"auths":{"registry.example":{"auth":"dXNlcjpwYXNz"}}}`} {
			if got := opens(d, "app", slot, want); got != "" {
				t.Error(got)
			}
		}
	}
	if a.Told("app").Digest != b.Told("app").Digest || a.Told("app").Sealed.To == b.Told("app").Sealed.To {
		t.Error("the two are not told the same, each for itself")
	}
	stranger, err := nkeys.CreateCurveKeys()
	must(t, err)
	sealed := *a.Told("app").Sealed
	sealed.To, err = stranger.PublicKey()
	must(t, err)
	if _, err := sealed.Open(stranger); err == nil {
		t.Error("a stranger's key opens it")
	}

	// A change of the Secret alone rolls out.
	s := &corev1.Secret{}
	must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: f.namespace, Name: "creds"}, s))
	s.Data["password"] = []byte(second)
	must(t, f.client.Update(t.Context(), s))
	eventually(t, func() string {
		return opens(a, "app", "creds/password", second) + opens(b, "app", "creds/password", second)
	})
	after := f.until("app", "complete with another revision", func(d *v1alpha1.Deployment) bool {
		return d.Status.UpdateRevision != before.Status.UpdateRevision && d.Status.CurrentRevision == d.Status.UpdateRevision
	})
	// One that changes nothing does not.
	s.Annotations = map[string]string{"looked-at": "again"}
	must(t, f.client.Update(t.Context(), s))
	f.edit("app", func(d *v1alpha1.Deployment) {
		d.Annotations = map[string]string{"reconcile.fluxcd.io/requestedAt": "now"}
	})
	f.until("app", "reconciled", func(d *v1alpha1.Deployment) bool { return d.Status.LastHandledReconcileAt == "now" })
	if d := f.get("app"); d.Status.UpdateRevision != after.Status.UpdateRevision {
		t.Error("an annotation of the Secret makes another revision")
	}

	f.nowhere(first, second, key, "dXNlcjpwYXNz")
	revisions := &appsv1.ControllerRevisionList{}
	must(t, f.client.List(t.Context(), revisions, client.InNamespace(f.namespace)))
	for _, r := range revisions.Items {
		for _, secret := range []string{first, second, key} {
			if bytes.Contains(r.Data.Raw, []byte(secret)) {
				t.Errorf("revision %s has %q", r.Name, secret)
			}
		}
	}
}

func TestADeviceWithAnotherKeyIsSealedToAnewAndDoesNothing(t *testing.T) {
	f := newFleet(t)
	f.secret("creds", map[string]string{"password": "x-x-x-x"})
	f.secret("pull", map[string]string{corev1.DockerConfigJsonKey: `{}`})
	d := f.device(simulated.Running)
	f.deploy("app", withSecrets)
	f.complete("app", 1)
	was := d.Told("app")
	d.Stop()
	again := f.online(d.id, simulated.Running)
	eventually(t, func() string { return opens(again, "app", "creds/password", "x-x-x-x") })
	if now := again.Told("app"); now.Digest != was.Digest || now.Revision != was.Revision || now.Issued <= was.Issued {
		t.Errorf("it is told %s %s %d, before %s %s %d", now.Revision, now.Digest, now.Issued, was.Revision, was.Digest, was.Issued)
	}
	f.complete("app", 1)
}

func TestNoSecretsForAKeyThatTheIdentityDoesNotVouchFor(t *testing.T) {
	f := newFleet(t)
	f.secret("creds", map[string]string{"password": "x-x-x-x"})
	f.secret("pull", map[string]string{corev1.DockerConfigJsonKey: `{}`})
	good := f.device(simulated.Running)
	id := f.newID()
	f.approve(id)
	bad := f.start(simulated.Options{ID: id, Stranger: true, Answer: simulated.Running})
	f.deploy("app", withSecrets)
	f.deploy("plain", nil)
	eventually(t, func() string { return opens(good, "app", "creds/password", "x-x-x-x") })
	// What needs none it is told.
	eventually(t, func() string {
		if bad.revision("plain") == "" {
			return "it is told nothing at all"
		}
		return ""
	})
	if bad.revision("app") != "" {
		t.Error("it was told secrets")
	}
	bad.Stop()
	back := f.online(id, simulated.Running)
	eventually(t, func() string { return opens(back, "app", "creds/password", "x-x-x-x") })
}

func TestAMissingSecretIsSaidAndWaitedFor(t *testing.T) {
	f := newFleet(t)
	f.secret("pull", map[string]string{corev1.DockerConfigJsonKey: `{}`})
	d := f.device(simulated.Running)
	f.deploy("app", withSecrets)
	f.until("app", "naming the Secret", func(d *v1alpha1.Deployment) bool {
		return stalled(d, v1alpha1.ReasonReferenceNotFound, "Secret "+f.namespace+"/creds does not exist; ")
	})
	f.secret("creds", map[string]string{"password": "x-x-x-x"})
	f.complete("app", 1)
	if got := opens(d, "app", "creds/password", "x-x-x-x"); got != "" {
		t.Error(got)
	}
	// What is secret does not go into the clear by a detour.
	f.edit("app", func(d *v1alpha1.Deployment) {
		d.Spec.Score.Podman.Containers[0].Args = []string{"--password=$(PASSWORD)"}
	})
	f.until("app", "refusing the detour", func(d *v1alpha1.Deployment) bool {
		return stalled(d, v1alpha1.ReasonInvalidSpec, "$(PASSWORD), which is secret")
	})
}
