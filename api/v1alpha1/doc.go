// Package v1alpha1 holds the kinds with which a fleet of devices is declared:
// Device, a machine outside the data centre, and Deployment, what a set of
// devices should run.
//
// +kubebuilder:object:generate=true
// +groupName=fleet.nationtech.io
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Finalizer keeps a Device or Deployment until what it caused outside the
// cluster (its keys on the bus) is gone.
const Finalizer = "fleet.nationtech.io/finalizer"

// Kinds, as they are written in manifests.
const (
	DeviceKind     = "Device"
	DeploymentKind = "Deployment"
)

var (
	// GroupVersion is the API group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "fleet.nationtech.io", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme registers the kinds of this package with a scheme.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Device{}, &DeviceList{}, &Deployment{}, &DeploymentList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
