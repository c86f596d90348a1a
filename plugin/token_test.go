package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin/cli"
)

// publish has an operator in a namespace say what devices are to trust, and returns the
// fingerprint of its key.
func publish(t *testing.T, ns string) string {
	t.Helper()
	pair, err := nkeys.CreateOperator()
	must(t, err)
	key, err := pair.PublicKey()
	must(t, err)
	fingerprint, err := contracts.Fingerprint(key)
	must(t, err)
	must(t, shared.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: jointoken.TrustConfigMap},
		Data:       map[string]string{jointoken.TrustOperator: key, jointoken.TrustServer: "tls://fleet.example.com:4222"},
	}))
	return fingerprint
}

func joinTokens(t *testing.T, ns string) []*jointoken.Token {
	t.Helper()
	list := &corev1.SecretList{}
	must(t, shared.client.List(t.Context(), list, client.InNamespace(ns), client.MatchingFields{"type": string(jointoken.SecretType)}))
	var out []*jointoken.Token
	for i := range list.Items {
		token, err := jointoken.FromSecret(&list.Items[i])
		must(t, err)
		out = append(out, token)
	}
	return out
}

func TestTokenCreate(t *testing.T) {
	ns := namespace(t, "tokens")
	operator := namespace(t, "tokens-operator")
	fingerprint := publish(t, operator)
	allow(t, ns, rbacv1.Subject{Kind: "ServiceAccount", Namespace: operator, Name: "fleet-operator"},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "patch"}})
	// The API server learns of it in a moment.
	said(t, "no warning", func() string {
		_, errOut, _ := command(t, t.Context(), "token", "create", "-n", ns, "--operator-namespace", operator)
		if strings.Contains(errOut, "may not read tokens") {
			return errOut
		}
		return "no warning"
	})
	// What differs from run to run.
	stable := func(text string) string {
		for pattern, with := range map[string]string{
			`\.[a-z2-7]{8}\.[a-z2-7]{26}\.` + fingerprint: ".ID.SECRET.FINGERPRINT",
			`([Tt]oken( revoke)?) [a-z2-7]{8} `:           "$1 ID ",
			`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`:             "2026-01-02T03:04:05Z",
		} {
			text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
		}
		return text
	}
	var said strings.Builder
	for _, args := range []string{
		"token create",
		"token create --label site=mtl,line=4 --label rack= --ttl 72h --uses 50 --approve auto",
		"token create --uses 0 --approve auto",
	} {
		out, errOut, code := command(t, t.Context(), append(strings.Fields(args), "-n", ns, "--operator-namespace", operator)...)
		fmt.Fprintf(&said, "$ kubectl fleet %s\n%s--- stderr\n%s--- exit code %d\n\n", args, out, errOut, code)
		text, err := contracts.ParseJoinToken(out)
		must(t, err)
		if out != text.String()+"\n" {
			t.Errorf("stdout has more than the token: %q", out)
		}
		if strings.Contains(errOut, text.Secret) {
			t.Errorf("stderr, which is no terminal, has the secret: %s", errOut)
		}
		secret := &corev1.Secret{}
		must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: jointoken.SecretName(text.ID)}, secret))
		kept, err := jointoken.FromSecret(secret)
		must(t, err)
		if !kept.Holds(text.Secret) || text.Fingerprint != fingerprint || text.Namespace != ns {
			t.Errorf("of %+v is kept %+v", text, kept)
		}
		if strings.Contains(fmt.Sprint(secret), text.Secret) {
			t.Error("the Secret has the token's secret")
		}
	}
	golden(t, "token-create.txt", stable(said.String()))

	t.Run("the operator may not read it", func(t *testing.T) {
		unbound := namespace(t, "tokens-unbound")
		_, errOut, code := command(t, t.Context(), "token", "create", "-n", unbound, "--operator-namespace", operator)
		if want := "kubectl -n tokens-unbound create rolebinding fleet-operator --clusterrole=fleet-operator-team --serviceaccount=tokens-operator:fleet-operator"; code != 0 || !strings.Contains(errOut, want) {
			t.Errorf("exit code %d, %q is not in %q", code, want, errOut)
		}
	})
	t.Run("what is kept is what was asked for", func(t *testing.T) {
		out, _, code := command(t, t.Context(), strings.Fields("token create --label site=mtl,line=4 --ttl 72h --uses 50 --approve auto -o json -n "+ns+" --operator-namespace "+operator)...)
		var made struct {
			Kind, Token, ID, Namespace, Approve string
			Uses                                int
			Labels                              map[string]string
			Expires                             time.Time
			Operator                            struct{ Server, Fingerprint string }
		}
		must(t, json.Unmarshal([]byte(out), &made))
		var kept *jointoken.Token
		for _, token := range joinTokens(t, ns) {
			if token.ID == made.ID {
				kept = token
			}
		}
		want := shared.now.Add(72 * time.Hour).Truncate(time.Second)
		if code != 0 || kept == nil || made.Operator.Fingerprint != fingerprint || made.Operator.Server == "" || made.Uses != 50 || made.Approve != "auto" || !made.Expires.Equal(want) ||
			kept.Uses != 50 || !kept.AutoApprove || !kept.Expires.Equal(want) || kept.Labels["site"] != "mtl" || kept.Labels["line"] != "4" || len(kept.Labels) != 2 {
			t.Errorf("exit code %d, %+v, kept %+v", code, made, kept)
		}
	})
	t.Run("what is wrong is said, and nothing is made", func(t *testing.T) {
		before := len(joinTokens(t, ns))
		empty, odd := namespace(t, "tokens-empty"), namespace(t, "tokens-odd")
		must(t, shared.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: empty, Name: jointoken.TrustConfigMap}}))
		must(t, shared.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: odd, Name: jointoken.TrustConfigMap},
			Data: map[string]string{jointoken.TrustOperator: somebodysKey}}))
		for args, want := range map[string]string{
			"--label site":                        "--label site: must be KEY=VALUE",
			"--label a/b/c=d":                     "--label a/b/c: ",
			"--label site=not/ok":                 "--label not/ok: ",
			"--label site=a,site=b":               "it is a already",
			"--ttl 0s":                            "--ttl 0s: must be from 1m to a year",
			"--ttl -1h":                           "--ttl -1h0m0s: must be",
			"--ttl 9000h":                         "--ttl 9000h0m0s: must be",
			"--ttl soon":                          "--ttl",
			"--uses -1":                           "--uses -1: must be",
			"--approve maybe":                     "--approve maybe: must be auto or manual",
			"--uses -1 --approve maybe":           "--uses -1: must be a number of devices, or 0 for any number\n--approve maybe",
			"-o wide":                             "wide",
			"--operator-namespace nowhere":        "there is no ConfigMap nowhere/fleet-trust",
			"--operator-namespace tokens-empty":   "has not run. Does it run now? kubectl get pods -n tokens-empty",
			"--operator-namespace tokens-odd":     "is not an operator's public key",
			"extra":                               "extra",
			"--operator-namespace tokens --color": "color",
		} {
			out, errOut, code := command(t, t.Context(), append([]string{"token", "create", "-n", ns, "--operator-namespace", operator}, strings.Fields(args)...)...)
			if code != cli.CodeError || out != "" || !strings.Contains(errOut, want) {
				t.Errorf("%s: exit code %d, stdout %q, %q is not in %q", args, code, out, want, errOut)
			}
		}
		nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
		_, errOut, code := command(t, t.Context(), "token", "create", "-n", ns, "--operator-namespace", operator, "--kubeconfig", nobody)
		if want := "kubectl auth can-i get configmaps -n " + operator; code != cli.CodeError || !strings.Contains(errOut, want) {
			t.Errorf("exit code %d, %q is not in %q", code, want, errOut)
		}
		if after := len(joinTokens(t, ns)); after != before {
			t.Errorf("there were %d tokens, and are %d", before, after)
		}
	})
}

func TestTokenListAndRevoke(t *testing.T) {
	ns := namespace(t, "tokens-kept")
	operator := namespace(t, "tokens-kept-operator")
	fingerprint := publish(t, operator)
	hash := jointoken.HashOf("anything")
	for _, token := range []jointoken.Token{
		{ID: "aaaaaaaa", Expires: shared.now.Add(20*time.Hour + time.Second), Uses: 10, Used: 3, Labels: map[string]string{"site": "mtl", "line": "4"}},
		{ID: "bbbbbbbb", Expires: shared.now.Add(-5 * time.Hour), Uses: 1, Used: 1},
		{ID: "cccccccc", Expires: shared.now.Add(9*24*time.Hour + time.Second), AutoApprove: true, Used: 12345},
	} {
		token.Namespace, token.Hash = ns, hash
		must(t, shared.client.Create(t.Context(), token.Secret()))
	}
	run := func(t *testing.T, args string) (string, string, int) {
		t.Helper()
		return command(t, t.Context(), append(strings.Fields(args), "-n", ns)...)
	}
	list := func(flags string) string { return "token list --operator-namespace " + operator + flags }
	dates := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

	t.Run("list", func(t *testing.T) {
		var b strings.Builder
		for _, args := range []string{list(""), list(" -o wide"), list(" -o name"), "token list --operator-namespace nowhere", "token list --operator-namespace " + operator + " -o jsonpath={range.tokens[*]}{.id}:{.valid};{end}{.operator.server}"} {
			out, errOut, code := run(t, args)
			fmt.Fprintf(&b, "$ kubectl fleet %s\n%s--- stderr\n%s--- exit code %d\n\n", args, out, errOut, code)
		}
		golden(t, "token-list.txt", strings.ReplaceAll(dates.ReplaceAllString(b.String(), "2026-01-02T03:04:05Z"), fingerprint, "FINGERPRINT"))
		all, _, code := command(t, t.Context(), "token", "list", "-A", "--operator-namespace", operator)
		if code != 0 || !strings.HasPrefix(all, "NAMESPACE") || !strings.Contains(all, ns) {
			t.Errorf("-A: exit code %d\n%s", code, all)
		}
		out, _, _ := run(t, list(" -o yaml"))
		if strings.Contains(out, "hash") || strings.Contains(out, fmt.Sprintf("%x", hash)) || !strings.Contains(out, fingerprint) {
			t.Errorf("-o yaml says\n%s", out)
		}
		if out, errOut, code := command(t, t.Context(), "token", "list", "-n", operator, "--operator-namespace", operator); code != 0 || out != "" || !strings.Contains(errOut, "No join tokens in namespace "+operator) {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
	})
	t.Run("completion", func(t *testing.T) {
		out, _, code := command(t, t.Context(), strings.Split("__complete --kubeconfig "+shared.kubeconfig+" -n "+ns+" token revoke aaaaaaaa ", " ")...)
		if code != 0 || !strings.HasPrefix(out, "bbbbbbbb\ncccccccc\n:") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
	t.Run("revoke", func(t *testing.T) {
		opaque := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: jointoken.SecretName("opaque"), Labels: map[string]string{jointoken.Label: "opaque"}}}
		must(t, shared.client.Create(t.Context(), opaque))
		whole := contracts.JoinToken{Namespace: ns, ID: "no-such", Secret: contracts.NewJoinSecret(), Fingerprint: fingerprint}
		out, errOut, code := run(t, "token revoke opaque aaaaaaaa "+whole.String()+" secret/fleet-join-bbbbbbbb")
		if code != cli.CodeBad || out != "token aaaaaaaa revoked\ntoken bbbbbbbb revoked\n" || !strings.Contains(errOut, "is no join token: its type is Opaque") ||
			!strings.Contains(errOut, "there is no join token no-such in namespace "+ns) || strings.Contains(errOut, whole.Secret) {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
		must(t, shared.client.Get(t.Context(), client.ObjectKeyFromObject(opaque), opaque))
		if left := joinTokens(t, ns); len(left) != 1 || left[0].ID != "cccccccc" {
			t.Errorf("there are %d tokens left", len(left))
		}
		if _, errOut, code := run(t, "token revoke"); code != cli.CodeError || !strings.Contains(errOut, "ID of a token is missing") {
			t.Errorf("exit code %d, stderr %q", code, errOut)
		}
	})
	t.Run("a Secret that can't be read is named", func(t *testing.T) {
		broken := (&jointoken.Token{Namespace: ns, ID: "dddddddd", Expires: shared.now}).Secret()
		broken.Data["expires"] = []byte("soon")
		must(t, shared.client.Create(t.Context(), broken))
		out, errOut, code := run(t, list(""))
		if code != 0 || !strings.Contains(errOut, "fleet-join-dddddddd is no join token: expires") || !strings.Contains(out, "cccccccc") {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errOut)
		}
	})
}

// Kubernetes' own role edit has Secrets, and is not to have tokens, which let devices in.
func TestWhoMayMakeTokens(t *testing.T) {
	policies, err := os.ReadFile("../manifests/rbac/join_tokens.yaml")
	must(t, err)
	for _, document := range strings.Split(string(policies), "\n---\n") {
		u := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(document), &u.Object))
		must(t, shared.client.Create(t.Context(), u))
		t.Cleanup(func() {
			if err := shared.client.Delete(context.WithoutCancel(t.Context()), u); err != nil && !apierrors.IsNotFound(err) {
				t.Log(err)
			}
		})
	}
	ns, operator := namespace(t, "tokens-policy"), namespace(t, "tokens-policy-operator")
	publish(t, operator)
	grant(t, operator, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}})
	grant(t, ns, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "create", "update", "patch"}})
	nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
	create := func() string {
		out, errOut, _ := command(t, t.Context(), "token", "create", "-n", ns, "--operator-namespace", operator, "--kubeconfig", nobody)
		return out + errOut
	}
	said(t, "only who may create Devices in this namespace may make or change a join token", create)
	grant(t, ns, rbacv1.PolicyRule{APIGroups: []string{"fleet.nationtech.io"}, Resources: []string{"devices"}, Verbs: []string{"create"}})
	said(t, "fleet-join."+ns, create)
}
