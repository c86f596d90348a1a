package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
)

// InstallCommand installs the kinds of the fleet.
const InstallCommand = "kubectl apply --server-side -k https://github.com/nationtech/fleet/manifests/crd"

// installLiveCommand has the API server pass requests for the live API on.
const installLiveCommand = "kubectl apply --server-side -k https://github.com/nationtech/fleet/manifests/live"

// NotInstalled reports whether err says that the API server does not know the
// kind at all, as opposed to one object that does not exist.
func NotInstalled(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// Explain is what a person can do about an error, or "" when the error says it
// all.
func Explain(err error) string {
	var status apierrors.APIStatus
	var dns *net.DNSError
	var request *url.Error
	var config *configError
	switch {
	case err == nil:
		return ""
	case clientcmd.IsEmptyConfig(err), errors.As(err, &config) && errors.Is(err, os.ErrNotExist):
		return "No cluster is configured: set KUBECONFIG or --kubeconfig to the kubeconfig of the cluster that manages the fleet."
	case clientcmd.IsContextNotFound(err):
		return "kubectl config get-contexts lists the contexts that there are."
	case NotInstalled(err):
		return notInstalledHint(err)
	case errors.As(err, &status) && commandHint(status.Status()) != "":
		return commandHint(status.Status())
	case apierrors.IsServiceUnavailable(err) && errors.As(err, &status):
		return unavailableHint(status.Status())
	case apierrors.IsForbidden(err) && errors.As(err, &status):
		return forbiddenHint(status.Status())
	case apierrors.IsUnauthorized(err):
		return "The cluster does not accept your credentials: log in again, or choose another user with --context or --user."
	case apierrors.IsConflict(err):
		return "Somebody else changes it at the same time: look at it again, and repeat the command."
	case errors.As(err, &dns):
		return fmt.Sprintf("The name %s can't be resolved: check --context, your network and VPN.", dns.Name)
	case errors.Is(err, context.DeadlineExceeded):
		return "The cluster did not answer in time: try again, or give it longer with --request-timeout."
	case errors.As(err, &request):
		return fmt.Sprintf("The cluster at %s can't be reached: check --context, your network and VPN.", hostOf(request.URL))
	}
	return ""
}

func notInstalledHint(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		switch group := status.Status().Details.Group; group {
		case "", v1alpha1.GroupVersion.Group:
		case live.GroupVersion.Group:
			return "The live API is not installed in this cluster: through it the API server asks the operator how devices are.\nInstall it with: " + installLiveCommand
		default:
			return fmt.Sprintf("The API group %s is not installed in this cluster.", group)
		}
	}
	return "The kinds of the fleet are not installed in this cluster (is it the one that manages the fleet? see --context).\nInstall them with: " + InstallCommand
}

// commandHint is about what a device, and not the cluster, says to a command.
func commandHint(status metav1.Status) string {
	if status.Details == nil || len(status.Details.Causes) == 0 {
		return ""
	}
	switch contracts.CommandCode(status.Details.Causes[0].Type) {
	case contracts.CodeOffline:
		return "Since when, and what it ran last: kubectl fleet describe device NAME"
	case contracts.CodeRefused:
		return "The device has the last word: whoever runs it allows the command in its agent's configuration."
	case contracts.CodeBusy:
		return "Others have logs and terminals of this device open: try again when they have closed some."
	}
	return ""
}

// unavailableHint tells an operator that is down from one that has just started. The
// first is the API server's own answer, which names the group.
func unavailableHint(status metav1.Status) string {
	switch details := status.Details; {
	case details == nil:
		return ""
	case details.Group == live.GroupVersion.Group:
		return fmt.Sprintf("The live API is the operator's, and the API server can't reach it. Does it run? kubectl get pods -A -l %s\nWhat the API server says: kubectl get apiservice %s.%s -o wide",
			"app.kubernetes.io/name=fleet-operator", live.GroupVersion.Version, live.GroupVersion.Group)
	case details.RetryAfterSeconds > 0:
		return "The operator has just started: try again in a moment."
	}
	return ""
}

// forbiddenHint turns the API server's sentence into a command that shows
// whether it was put right. The verb is in the sentence alone.
func forbiddenHint(status metav1.Status) string {
	details := status.Details
	if details == nil || details.Kind == "" {
		return "Ask the cluster's administrator for this permission."
	}
	resource := details.Kind
	if details.Group != "" {
		resource += "." + details.Group
	}
	_, verb, found := strings.Cut(status.Message, " cannot ")
	if !found {
		return "" // not RBAC's, which has said why
	}
	verb, _, _ = strings.Cut(verb, " ")
	where := " -A"
	if _, after, ok := strings.Cut(status.Message, `in the namespace "`); ok {
		where = " -n " + strings.SplitN(after, `"`, 2)[0]
	}
	return fmt.Sprintf("Ask the cluster's administrator for the verb %s on %s. To check it: kubectl auth can-i %s %s%s", verb, resource, verb, resource, where)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return address
	}
	return u.Scheme + "://" + u.Host
}
