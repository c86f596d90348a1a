package status

import (
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	"github.com/nationtech/fleet/plugin/rollout"
)

// names are the objects that a report shows each on its own. Devices are not among
// them, for a report counts them.
func (r Report) names() []string {
	var names []string
	for _, s := range r.Sources {
		names = append(names, strings.ToLower(s.Kind)+"."+sourcev1.GroupVersion.Group+"/"+s.Name)
		for _, k := range s.Kustomizations {
			names = append(names, strings.ToLower(kustomizev1.KustomizationKind)+"."+kustomizev1.GroupVersion.Group+"/"+k.Name)
		}
	}
	for _, d := range r.Deployments {
		names = append(names, rollout.ObjectName(d.Name))
	}
	return names
}
