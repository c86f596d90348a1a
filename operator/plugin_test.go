package operator_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/api/jointoken"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/plugin"
)

// kubectl runs kubectl fleet as one who may do everything, in the test's namespace.
func (f *fleet) kubectl(args ...string) string {
	f.Helper()
	var out, errOut bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut}
	if code := plugin.Execute(f.Context(), append(args, "--kubeconfig", f.writeKubeconfig()), streams); code != 0 {
		f.Fatalf("kubectl fleet %s: exit code %d\n%s%s", strings.Join(args, " "), code, out.String(), errOut.String())
	}
	return out.String()
}

// writeKubeconfig writes the kubeconfig of one who may do everything.
func (f *fleet) writeKubeconfig() string {
	f.Helper()
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: f.config.Host, CertificateAuthorityData: f.config.CAData}
	file.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: f.config.CertData, ClientKeyData: f.config.KeyData}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin", Namespace: f.namespace}
	file.CurrentContext = "test"
	path := filepath.Join(f.TempDir(), "kubeconfig")
	must(f.T, clientcmd.WriteToFile(*file, path))
	return path
}

// What the plugin makes is what the operator and the agent go by, all the way.
func TestADeviceOfThePluginsToken(t *testing.T) {
	f := newFleet(t)
	id := unique(t, "till")
	// The operator that leads says what devices are to trust.
	eventually(t, func() string {
		trust := &corev1.ConfigMap{}
		must(t, f.client.Get(t.Context(), client.ObjectKey{Namespace: systemNamespace, Name: jointoken.TrustConfigMap}, trust))
		if trust.Data[jointoken.TrustServer] != f.nats {
			return fmt.Sprintf("the operator has published %v", trust.Data)
		}
		return ""
	})
	token := mustToken(t, f.kubectl("token", "create", "--label", "site=mtl,run=yes", "--uses", "1"))
	j := f.joiner(id, token)
	if s, err := j.join(t); err != nil || s.Standing != contracts.StandingPending {
		t.Fatalf("it is %s, %v", s.Standing, err)
	}
	key, err := identity.Public(j.SeedFile)
	must(t, err)
	if out := f.kubectl("devices", "--health", "pending", "-o", "wide"); !strings.Contains(out, id) || !strings.Contains(out, key) {
		t.Errorf("who waits:\n%s", out)
	}
	if out := f.kubectl("approve", "-l", "site=mtl"); !strings.Contains(out, id) || !strings.Contains(out, key) {
		t.Errorf("approve says\n%s", out)
	}
	stands := func(j *joiner, want contracts.JoinStanding) {
		t.Helper()
		eventually(t, func() string {
			s, err := j.join(t)
			if s.Standing != want {
				return fmt.Sprintf("it is %s: %s, %v", s.Standing, s.Message, err)
			}
			return ""
		})
	}
	stands(j, contracts.StandingApproved)
	if out := f.kubectl("token", "list"); !strings.Contains(out, token.ID+"   1/1") {
		t.Errorf("token list says\n%s", out)
	}

	// It needs no token any longer to know how it stands.
	f.kubectl("token", "revoke", token.ID)
	j.Token, j.Fingerprint = "", token.Fingerprint
	f.kubectl("revoke", id)
	stands(j, contracts.StandingShutOut)
	f.kubectl("approve", id)
	stands(j, contracts.StandingApproved)

	// It was set up anew, and has another key.
	anew := f.joiner(id, mustToken(t, f.kubectl("token", "create", "--ttl", "5m")))
	_, err = anew.join(t)
	refusedWith(t, err, contracts.JoinKeyMismatch, "kubectl fleet device reset-key "+id+" -n "+f.namespace)
	f.kubectl("device", "reset-key", id)
	stands(anew, contracts.StandingApproved)
	stands(j, contracts.StandingUnknown)
}
