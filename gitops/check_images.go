package gitops

import (
	"fmt"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// images warns of images whose change can't be seen in Git.
func (c *overlayCheck) images(object Object, score *v1alpha1.PodmanScore) {
	const hint = "which version runs would depend on when a device pulls it, and a new one would be no change: name a version"
	for _, list := range containerLists(score) {
		for i, container := range list.containers {
			parts := imagePattern.FindStringSubmatch(container.Image)
			if parts == nil {
				continue // podman says what is wrong
			}
			field := fmt.Sprintf("%s[%d].image", list.field, i)
			switch tag, digest := parts[2], parts[3]; {
			case digest != "":
			case tag == "":
				c.add(Warning, object, field, fmt.Sprintf("%s has neither tag nor digest", container.Image), hint)
			case tag == "latest":
				c.add(Warning, object, field, fmt.Sprintf("%s has the tag latest", container.Image), hint)
			}
		}
	}
}
