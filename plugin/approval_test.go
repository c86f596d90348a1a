package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
)

// applicant is a Device as somebody or a token has made it.
func applicant(t *testing.T, ns, name, site string, approved *bool, key string) {
	t.Helper()
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"site": site}}}
	d.Spec.Approved, d.Spec.PublicKey = approved, key
	must(t, shared.client.Create(t.Context(), d))
}

// deviceNamespace is an empty one whose Devices go with the test: others count all that
// there are.
func deviceNamespace(t *testing.T, name string) string {
	t.Helper()
	t.Cleanup(func() {
		must(t, shared.client.DeleteAllOf(context.WithoutCancel(t.Context()), &v1alpha1.Device{}, client.InNamespace(name)))
	})
	return namespace(t, name)
}

func getDevice(t *testing.T, ns, name string) *v1alpha1.Device {
	t.Helper()
	d := &v1alpha1.Device{}
	must(t, shared.client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, d))
	return d
}

// approvals are the devices of a namespace with their spec.approved, in words.
func approvals(t *testing.T, ns string) string {
	t.Helper()
	list := &v1alpha1.DeviceList{}
	must(t, shared.client.List(t.Context(), list, client.InNamespace(ns)))
	var out []string
	for _, d := range list.Items {
		word := "waits"
		if d.Spec.Approved != nil {
			word = fmt.Sprint(*d.Spec.Approved)
		}
		out = append(out, d.Name+"="+word)
	}
	return strings.Join(out, " ")
}

// transcript runs commands and holds all that they say to a golden file.
func transcript(t *testing.T, file, ns string, lines ...string) {
	t.Helper()
	var b strings.Builder
	for _, line := range lines {
		out, errOut, code := command(t, t.Context(), append(strings.Fields(line), "-n", ns)...)
		fmt.Fprintf(&b, "$ kubectl fleet %s\n%s", line, out)
		if errOut != "" {
			fmt.Fprintf(&b, "--- stderr\n%s", errOut)
		}
		fmt.Fprintf(&b, "--- exit code %d\n\n", code)
	}
	golden(t, file, b.String())
}

func TestApproval(t *testing.T) {
	const ns, keyA, keyB = "approval", somebodysKey, "UBLJHT7M2HG3WVUJFNBLBGLK6HMFZM2UWYIQ3PZMRZLLWQTTPW6BK73B"
	deviceNamespace(t, ns)
	yes, no := new(true), new(false)
	applicant(t, ns, "a-waits", "mtl", nil, keyA)
	applicant(t, ns, "b-waits", "mtl", nil, keyB)
	applicant(t, ns, "c-keyless", "mtl", nil, "")
	applicant(t, ns, "d-in", "mtl", yes, keyA)
	applicant(t, ns, "e-out", "mtl", no, keyB)
	applicant(t, ns, "f-elsewhere", "qc", nil, keyB)

	t.Run("a dry run changes nothing", func(t *testing.T) {
		before := approvals(t, ns)
		transcript(t, "approval-dry-run.txt", ns, "approve -l site=mtl --dry-run=client", "deny --all-pending --dry-run=server", "device reset-key d-in --dry-run=server")
		if after := approvals(t, ns); after != before || getDevice(t, ns, "d-in").Spec.PublicKey == "" {
			t.Errorf("%s, and before %s", after, before)
		}
	})
	t.Run("one by one", func(t *testing.T) {
		transcript(t, "approval.txt", ns,
			"approve a-waits", "approve a-waits", "approve c-keyless", "deny b-waits", "deny a-waits", "revoke a-waits", "revoke a-waits", "revoke f-elsewhere",
			"approve no-such b-waits also-not", "approve no-such")
		if got, want := approvals(t, ns), "a-waits=false b-waits=true c-keyless=true d-in=true e-out=false f-elsewhere=waits"; got != want {
			t.Errorf("they are\n%s, want\n%s", got, want)
		}
	})
	t.Run("a selector lets nobody in who was shut out", func(t *testing.T) {
		applicant(t, ns, "g-new", "mtl", nil, keyB)
		transcript(t, "approval-selected.txt", ns, "approve -l site=mtl", "approve --all-pending", "approve --all-pending", "revoke -l site=qc -o name", "approve -l site=nowhere")
		if got, want := approvals(t, ns), "a-waits=false b-waits=true c-keyless=true d-in=true e-out=false f-elsewhere=false g-new=true"; got != want {
			t.Errorf("they are\n%s, want\n%s", got, want)
		}
	})
	t.Run("json has everything", func(t *testing.T) {
		out, _, code := command(t, t.Context(), "approve", "e-out", "no-such", "-n", ns, "-o", "json")
		var got struct {
			Kind            string
			Changed, Failed int
			Devices         []struct{ Name, PublicKey, Outcome, Message string }
		}
		must(t, json.Unmarshal([]byte(out), &got))
		if code != cli.CodeBad || got.Kind != "DeviceApproval" || got.Changed != 1 || got.Failed != 1 || len(got.Devices) != 2 ||
			got.Devices[0].PublicKey != keyB || got.Devices[0].Outcome != "Changed" || !strings.Contains(got.Devices[1].Message, "not found") {
			t.Errorf("exit code %d, %+v", code, got)
		}
	})
	t.Run("reset-key", func(t *testing.T) {
		transcript(t, "reset-key.txt", ns, "device reset-key d-in", "device reset-key d-in", "device reset-key a-waits b-waits")
		for _, name := range []string{"a-waits", "b-waits", "d-in"} {
			if key := getDevice(t, ns, name).Spec.PublicKey; key != "" {
				t.Errorf("%s has the key %s", name, key)
			}
		}
	})
	t.Run("what is wrong with the command line", func(t *testing.T) {
		for args, want := range map[string]string{
			"approve":                 "which devices?",
			"approve a -l x=y":        "not both",
			"approve a --all-pending": "not both",
			"approve a -A":            "use -n",
			"approve -l x==in(":       "--selector",
			"revoke --all-pending":    "unknown flag",
			"device reset-key":        "name of a device is missing",
			"deny a --dry-run=maybe":  "dry-run",
			"deny a -o yoml":          "yoml",
		} {
			out, errOut, code := command(t, t.Context(), append(strings.Fields(args), "-n", ns)...)
			if code != cli.CodeError || out != "" || !strings.Contains(errOut, want) {
				t.Errorf("%s: exit code %d, %q is not in %q", args, code, want, errOut)
			}
		}
	})
	t.Run("completion", func(t *testing.T) {
		for args, want := range map[string]string{
			"approve d":          "d-in\n",
			"device reset-key e": "e-out\n",
			"device res":         "reset-key",
			"revoke --dry-run=":  "client",
			"token create --app": "--approve",
		} {
			out, errOut, code := command(t, t.Context(), strings.Split("__complete --kubeconfig "+shared.kubeconfig+" -n "+ns+" "+args, " ")...)
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d\n%s%s", args, code, out, errOut)
			}
		}
	})
	t.Run("refusals of RBAC are clear", func(t *testing.T) {
		nobody := filepath.Join(filepath.Dir(shared.kubeconfig), "nobody")
		grant(t, ns, rbacv1.PolicyRule{APIGroups: []string{"fleet.nationtech.io"}, Resources: []string{"devices"}, Verbs: []string{"get"}})
		applicant(t, ns, "h-waits", "mtl", nil, keyA)
		said(t, "kubectl auth can-i patch devices.fleet.nationtech.io -n "+ns, func() string {
			_, errOut, _ := command(t, t.Context(), "approve", "h-waits", "-n", ns, "--kubeconfig", nobody)
			return errOut
		})
		if getDevice(t, ns, "h-waits").Spec.Approved != nil {
			t.Error("it is approved all the same")
		}
	})
}

// grant lets the user nobody do something in a namespace.
func grant(t *testing.T, ns string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	allow(t, ns, rbacv1.Subject{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "nobody"}, rules...)
}

// allow lets somebody do something in a namespace.
func allow(t *testing.T, ns string, who rbacv1.Subject, rules ...rbacv1.PolicyRule) {
	t.Helper()
	role := metav1.ObjectMeta{Namespace: ns, GenerateName: "test-"}
	r := &rbacv1.Role{ObjectMeta: role, Rules: rules}
	must(t, shared.client.Create(t.Context(), r))
	must(t, shared.client.Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: role, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: r.Name},
		Subjects: []rbacv1.Subject{who}}))
}

// said waits until something is said: the API server learns of roles and policies in a
// moment.
func said(t *testing.T, want string, say func() string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := say()
		if strings.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not said, but\n%s", want, got)
		}
	}
}

// TestApprovalInGit changes devices that Flux applies.
func TestApprovalInGit(t *testing.T) {
	ns := deviceNamespace(t, "approval-in-git")
	manifest := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: %s, namespace: %s, labels: {site: mtl, kustomize.toolkit.fluxcd.io/name: field, kustomize.toolkit.fluxcd.io/namespace: flux-system}}\n%s", name, ns, spec)
	}
	for _, name := range []string{"a-open", "b-open", "c-open", "d-open"} {
		apply(t, manifest(name, ""))
	}
	apply(t, manifest("e-refused", "spec: {approved: false, publicKey: "+somebodysKey+"}"))
	transcript(t, "approval-in-git.txt", ns, "approve -l site=mtl", "approve e-refused", "device reset-key e-refused")
	if d := getDevice(t, ns, "e-refused"); !*d.Spec.Approved || d.Spec.PublicKey != "" {
		t.Errorf("it is %+v", d.Spec)
	}
	// What Git says nothing of stays, what it says comes back.
	apply(t, manifest("a-open", ""))
	apply(t, manifest("e-refused", "spec: {approved: false, publicKey: "+somebodysKey+"}"))
	if a, e := getDevice(t, ns, "a-open"), getDevice(t, ns, "e-refused"); a.Spec.Approved == nil || !*a.Spec.Approved || *e.Spec.Approved || e.Spec.PublicKey == "" {
		t.Errorf("after another apply of Flux they are %+v, %+v", a.Spec, e.Spec)
	}
}

// many is more than one chunk of a list has.
const many = 1200

func TestApprovalOfMany(t *testing.T) {
	ns := deviceNamespace(t, "approval-of-many")
	begun := time.Now()
	todo := make(chan int)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range todo {
				d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("till-%05d", i), Labels: map[string]string{"site": "mtl"}}}
				d.Spec.PublicKey = somebodysKey
				if i == 7 {
					d.Spec.Approved = new(false)
				}
				if err := shared.client.Create(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range many {
		todo <- i
	}
	close(todo)
	workers.Wait()
	made := time.Since(begun)
	begun = time.Now()
	out, errOut, code := command(t, t.Context(), "approve", "-l", "site=mtl", "-n", ns)
	took := time.Since(begun)
	t.Logf("%d devices made at %.0f/s, approved at %.0f/s", many, many/made.Seconds(), many/took.Seconds())
	if want := "+ 1,199 devices approved   1 left alone, each is shut out: to let it in again, name it\n"; code != 0 || out != want {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errOut)
	}
	if got := strings.Count(approvals(t, ns), "=true"); got != many-1 {
		t.Errorf("%d are approved", got)
	}
}
