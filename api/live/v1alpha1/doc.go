// Package v1alpha1 has the kinds of live.fleet.nationtech.io: how devices are and
// what runs on them at this moment. They are served by the operator from memory and
// never stored.
//
// +kubebuilder:object:generate=true
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.nationtech.fleet.live.v1alpha1
// +groupName=live.fleet.nationtech.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of the kinds.
var GroupVersion = schema.GroupVersion{Group: "live.fleet.nationtech.io", Version: "v1alpha1"}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Heartbeat{}, &HeartbeatList{}, &Placement{}, &PlacementList{}, &FleetHealth{}, &FleetHealthList{}, &Device{}, &DevicePing{},
		&PlacementLogOptions{}, &PlacementExecOptions{}, &PlacementRestartOptions{}, &PlacementRestart{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
