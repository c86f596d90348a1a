package rollout

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// SpecWaves are the waves that a Deployment's spec comes to.
type SpecWaves struct {
	Waves []Wave
	// selectors has one for each wave; nil matches every device.
	selectors []labels.Selector
}

// WavesOf are the waves of the spec and, where these don't take everything, the rest,
// with what is approved for a revision.
func WavesOf(obj *v1alpha1.Deployment, revision string) (SpecWaves, error) {
	var out SpecWaves
	spec := obj.Spec.Rollout
	approved := map[string]bool{}
	for _, a := range spec.Approvals {
		approved[a.Wave] = a.Revision == revision
	}
	everything := false
	for i, w := range spec.Waves {
		wave := Wave{Name: w.Name, Limit: w.Limit, Approved: w.Approval != v1alpha1.ApprovalManual || approved[w.Name]}
		if w.Soak != nil {
			wave.Soak = w.Soak.Duration
		}
		var selector labels.Selector
		if w.Selector != nil {
			var err error
			if selector, err = metav1.LabelSelectorAsSelector(w.Selector); err != nil {
				return SpecWaves{}, fmt.Errorf("spec.rollout.waves[%d].selector: %w", i, err)
			}
		}
		out.add(wave, selector)
		everything = w.Selector == nil && w.Limit == nil
	}
	if !everything {
		out.add(Wave{Name: v1alpha1.RestWave, Approved: true}, nil)
	}
	return out, nil
}

func (s *SpecWaves) add(wave Wave, selector labels.Selector) {
	s.Waves, s.selectors = append(s.Waves, wave), append(s.selectors, selector)
}

// Matching has a bit for each wave whose selector matches a device with the labels.
func (s *SpecWaves) Matching(device map[string]string) (matches uint32) {
	for w, selector := range s.selectors {
		if selector == nil || selector.Matches(labels.Set(device)) {
			matches |= 1 << w
		}
	}
	return matches
}
