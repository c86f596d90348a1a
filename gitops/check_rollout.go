package gitops

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// rollout warns of a Deployment that no device of the overlay gets, and of waves that
// none of its devices is in.
func (c *overlayCheck) rollout(object Object, deployment *v1alpha1.Deployment, all *inventory) {
	c.approvals(object, deployment)
	const field = "spec.targetSelector"
	selector, err := metav1.LabelSelectorAsSelector(&deployment.Spec.TargetSelector)
	if err != nil {
		c.add(Error, object, field, err.Error(), "")
		return
	}
	if selector.Empty() {
		c.add(Warning, object, field, "is empty and selects no device", "")
		return
	}
	devices := all.devices[deployment.Namespace]
	selected := matching(devices, selector)
	switch {
	case len(devices) == 0:
		// They are declared elsewhere; nothing is known of them.
	case len(selected) == 0:
		c.add(Warning, object, field, fmt.Sprintf("selects none of the %d devices of the overlay", len(devices)), "")
		return
	}
	c.waves(object, deployment.Spec.Rollout.Waves, selected)
}

func matching(devices []labels.Set, selector labels.Selector) []labels.Set {
	var out []labels.Set
	for _, device := range devices {
		if selector.Matches(device) {
			out = append(out, device)
		}
	}
	return out
}

// waves warns of waves that stay empty, whichever of the selected devices can be
// reached. With selected empty only the selectors themselves are judged.
func (c *overlayCheck) waves(object Object, waves []v1alpha1.Wave, selected []labels.Set) {
	left := selected
	for i, wave := range waves {
		at := fmt.Sprintf("spec.rollout.waves[%d]", i)
		selector := labels.Everything()
		if wave.Selector != nil {
			var err error
			if selector, err = metav1.LabelSelectorAsSelector(wave.Selector); err != nil {
				c.add(Error, object, at+".selector", err.Error(), "")
				continue
			}
		}
		could, takes := matching(selected, selector), matching(left, selector)
		switch {
		case len(selected) == 0:
			continue
		case len(could) == 0:
			c.add(Warning, object, at+".selector", fmt.Sprintf("matches none of the %d devices that the Deployment selects", len(selected)), "the wave "+wave.Name+" stays empty")
			continue
		case len(takes) == 0:
			c.add(Warning, object, at, fmt.Sprintf("stays empty: the waves before it take all %d devices that it could have", len(could)), "a device is in the first wave that matches it and has room")
			continue
		}
		// A wave with less room takes some, and nobody knows before which.
		if room(wave.Limit, len(could)) >= len(takes) {
			left = matching(left, complement{selector})
		}
	}
}

// complement matches what another selector does not.
type complement struct{ labels.Selector }

func (c complement) Matches(l labels.Labels) bool { return !c.Selector.Matches(l) }

// room is how many devices a wave takes of those that match it.
func room(limit *intstr.IntOrString, matching int) int {
	if limit == nil {
		return matching
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(limit, matching, true)
	if err != nil {
		return 0 // the schema says what is wrong
	}
	return n
}

// approvals warns of those that have no effect.
func (c *overlayCheck) approvals(object Object, deployment *v1alpha1.Deployment) {
	names := []string{v1alpha1.RestWave}
	for _, wave := range deployment.Spec.Rollout.Waves {
		names = append(names, wave.Name)
	}
	for i, approval := range deployment.Spec.Rollout.Approvals {
		if !slices.Contains(names, approval.Wave) {
			c.add(Warning, object, fmt.Sprintf("spec.rollout.approvals[%d].wave", i), fmt.Sprintf("there is no wave %s, so the approval has no effect", approval.Wave),
				"there are: "+strings.Join(append(names[1:], names[0]), ", "))
		}
	}
}
