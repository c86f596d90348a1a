package gitops

import "fmt"

// deviceNames are the devices of the overlays that were looked at so far, by what only
// one device may have.
type deviceNames struct{ ids, keys map[string]knownDevice }

type knownDevice struct{ overlay, name, object string }

func newDeviceNames() *deviceNames {
	return &deviceNames{ids: map[string]knownDevice{}, keys: map[string]knownDevice{}}
}

// add notes the devices of an overlay, and finds those whose ID or key another one has.
// The same ID in another overlay is no error: the overlays may be of different fleets.
func (n *deviceNames) add(c *overlayCheck) []Finding {
	c.findings = nil
	for _, object := range c.rendered.Objects {
		if !object.isDevice() || object.isEncrypted() {
			continue
		}
		here := knownDevice{c.overlay.Name, object.meta().GetName(), describe(object)}
		n.addID(c, object, here)
		n.addKey(c, object, here)
	}
	return c.findings
}

func (n *deviceNames) addID(c *overlayCheck, object Object, here knownDevice) {
	before, ok := n.ids[here.name]
	switch {
	case !ok:
		n.ids[here.name] = here
	case before.object == here.object:
	case before.overlay == here.overlay:
		c.add(Error, object, "metadata.name",
			"the overlay has a device of this name too: "+before.object,
			"a device's name is unique in the whole fleet; the second one is refused")
	default:
		c.add(Warning, object, "metadata.name",
			fmt.Sprintf("overlay %s has a device of this name too: %s", before.overlay, before.object),
			"a device's name is unique in the whole fleet; the second one is refused")
	}
}

func (n *deviceNames) addKey(c *overlayCheck, object Object, here knownDevice) {
	spec, _ := object.Content["spec"].(map[string]any)
	key, _ := spec["publicKey"].(string)
	if key == "" {
		return
	}
	before, ok := n.keys[key]
	switch {
	case !ok:
		n.keys[key] = here
	case before.name == here.name:
		// One device, or a name that is there twice, which addID says.
	default:
		c.add(Error, object, "spec.publicKey",
			fmt.Sprintf("%s of overlay %s has this key too", before.object, before.overlay),
			"a key is the identity of one device: take what fleet-agent identity prints on this one")
	}
}
