// Package assets builds the binaries of the control plane from the module
// proxy and keeps them in a cache outside the work tree.
package assets

import "strings"

// Binary is a program built from a package of a module.
type Binary struct {
	Name    string
	Package string
	// Manifests is set for modules whose config/ folder the control plane needs.
	Manifests string
}

// kubeVersion is what /version reports; kubectl and Flux refuse an API server
// that says v0.0.0-master.
const kubeVersion = "v1.36.3"

// Binaries are built in this order: what is quick comes first, so that a wrong
// set-up shows before the long build of kube-apiserver.
var Binaries = []Binary{
	{Name: "nats-server", Package: "github.com/nats-io/nats-server/v2"},
	{Name: "etcd", Package: "go.etcd.io/etcd/server/v3"},
	{Name: "kube-apiserver", Package: "k8s.io/kubernetes/cmd/kube-apiserver"},
	{Name: "kube-controller-manager", Package: "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{Name: "source-controller", Package: "github.com/fluxcd/source-controller", Manifests: "github.com/fluxcd/source-controller"},
	{Name: "kustomize-controller", Package: "github.com/fluxcd/kustomize-controller", Manifests: "github.com/fluxcd/kustomize-controller"},
}

// ldflags returns the linker flags that every binary is built with; they do
// nothing in a program that lacks the variables.
func ldflags() string {
	parts := strings.SplitN(strings.TrimPrefix(kubeVersion, "v"), ".", 3)
	const pkg = " -X k8s.io/component-base/version."
	return "-s -w" + pkg + "gitVersion=" + kubeVersion + pkg + "gitMajor=" + parts[0] + pkg + "gitMinor=" + parts[1]
}
