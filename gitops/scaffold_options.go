package gitops

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ScaffoldOptions say what a new fleet repository is for.
type ScaffoldOptions struct {
	// URL is where Flux will fetch the repository: http, https or ssh.
	URL string
	// Branch that Flux follows. Default: main.
	Branch string
	// Name of the fleet: of the Flux objects and of the label that its devices
	// have. Default: fleet.
	Name string
	// Namespace of the devices in the field; the lab's is this and -lab. Default:
	// fleet-demo.
	Namespace string
	// Image that the examples run, with a tag or digest. It serves HTTP on the
	// port that the variable PORT names.
	Image string
	// Devices to begin with. An overlay without any gets examples that are not
	// approved.
	Devices []ScaffoldDevice
}

// ScaffoldDevice is a device that a new repository begins with.
type ScaffoldDevice struct {
	// Overlay is LabOverlay or FieldOverlay; empty is FieldOverlay.
	Overlay string
	// ID is the device's name.
	ID string
	// PublicKey is its identity; may be empty.
	PublicKey string
	// Example marks a device that nobody has.
	Example bool
}

// ParseScaffoldDevice reads [OVERLAY/]ID[=PUBLICKEY].
func ParseScaffoldDevice(text string) (ScaffoldDevice, error) {
	device := ScaffoldDevice{}
	place, key, hasKey := strings.Cut(text, "=")
	if overlay, id, ok := strings.Cut(place, "/"); ok {
		device.Overlay, device.ID = overlay, id
	} else {
		device.ID = place
	}
	device.PublicKey = key
	if hasKey && key == "" {
		return device, fmt.Errorf("device %q has an empty public key: leave the = away or say what fleet-agent identity prints", text)
	}
	return device, device.validate()
}

func (d ScaffoldDevice) validate() error {
	if problems := validation.IsDNS1123Label(d.ID); len(problems) > 0 {
		return fmt.Errorf("device ID %q: %s", d.ID, problems[0])
	}
	if d.PublicKey != "" && !nkeys.IsValidPublicUserKey(d.PublicKey) {
		return fmt.Errorf("device %s: %q is not the public half of an NKey of type user (56 characters that begin with U): take what fleet-agent identity prints", d.ID, d.PublicKey)
	}
	if !slices.Contains([]string{"", LabOverlay, FieldOverlay}, d.Overlay) {
		return fmt.Errorf("device %s: there is no overlay %q: use %s or %s", d.ID, d.Overlay, LabOverlay, FieldOverlay)
	}
	return nil
}

// maxScaffoldName leaves room for the overlay's name behind it in a label value.
const maxScaffoldName = 50

func (o ScaffoldOptions) data() (scaffoldData, error) {
	o.Branch = orDefault(o.Branch, "main")
	o.Name = orDefault(o.Name, "fleet")
	o.Namespace = orDefault(o.Namespace, "fleet-demo")
	if err := checkURL(o.URL); err != nil {
		return scaffoldData{}, err
	}
	if problems := validation.IsDNS1123Label(o.Name); len(problems) > 0 || len(o.Name) > maxScaffoldName {
		return scaffoldData{}, fmt.Errorf("name %q: must be a DNS label of at most %d characters: lower-case letters, digits and '-'", o.Name, maxScaffoldName)
	}
	lab := o.Namespace + "-" + LabOverlay
	if problems := validation.IsDNS1123Label(lab); len(problems) > 0 {
		return scaffoldData{}, fmt.Errorf("namespace %q: must be a DNS label of at most %d characters", o.Namespace, 63-len(LabOverlay)-1)
	}
	if strings.ContainsAny(o.Branch, " \t\n~^:?*[\\") || strings.HasPrefix(o.Branch, "-") {
		return scaffoldData{}, fmt.Errorf("branch %q is not a Git branch name", o.Branch)
	}
	image, err := parseImage(o.Image)
	if err != nil {
		return scaffoldData{}, err
	}
	data := scaffoldData{
		Name: o.Name, URL: o.URL, Branch: o.Branch, Image: image,
		Lab: scaffoldOverlay{
			Name: LabOverlay, Namespace: lab, Greeting: "Hello from the lab",
			Title: "The devices on your desk: a new version is tried here first.",
		},
		Field: scaffoldOverlay{
			Name: FieldOverlay, Namespace: o.Namespace, Greeting: "Hello from the field",
			Title: "The devices out there.",
		},
	}
	return data, data.addDevices(o.Devices)
}

func (data *scaffoldData) addDevices(devices []ScaffoldDevice) error {
	seen := map[string]bool{}
	for _, device := range devices {
		if err := device.validate(); err != nil {
			return err
		}
		if seen[device.ID] {
			return fmt.Errorf("device %s is named twice: a device's ID is unique in the fleet", device.ID)
		}
		seen[device.ID] = true
		overlay := &data.Field
		if device.Overlay == LabOverlay {
			overlay = &data.Lab
		}
		overlay.Devices = append(overlay.Devices, device)
	}
	examples := map[*scaffoldOverlay][]string{&data.Lab: {"lab-1"}, &data.Field: {"shop-1", "shop-2", "shop-3"}}
	for overlay, ids := range examples {
		if len(overlay.Devices) > 0 {
			continue
		}
		for _, id := range ids {
			if !seen[id] {
				overlay.Devices = append(overlay.Devices, ScaffoldDevice{ID: id, Example: true})
			}
		}
	}
	for _, overlay := range []*scaffoldOverlay{&data.Lab, &data.Field} {
		if len(overlay.Devices) == 0 {
			// Every example's name is taken in the other overlay.
			overlay.Devices = []ScaffoldDevice{{ID: "example-" + overlay.Name, Example: true}}
		}
	}
	return nil
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// fluxURL is what a Flux GitRepository accepts.
// https://fluxcd.io/flux/components/source/gitrepositories/#url
var fluxURL = regexp.MustCompile(`^(http|https|ssh)://[^\s/]+/?\S*$`)

func checkURL(url string) error {
	if url == "" {
		return errors.New("say where Flux will fetch the repository, such as --url https://git.example.com/fleet.git")
	}
	if !fluxURL.MatchString(url) {
		return fmt.Errorf("url %q: Flux takes http://, https:// and ssh:// (write git@host:path as ssh://git@host/path)", url)
	}
	return nil
}

// imageReference is an image as kustomize's images transformer has it.
type imageReference struct {
	// Reference is the whole.
	Reference string
	// Name is the registry and repository, Field is newTag or digest, Version its
	// value.
	Name, Field, Version string
}

// imagePattern is name[:tag][@digest] in the words of the container registries.
// https://github.com/distribution/reference/blob/main/reference.go
var imagePattern = regexp.MustCompile(`^((?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::[0-9]+)?/)?[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(sha256:[a-f0-9]{64}))?$`)

func parseImage(reference string) (imageReference, error) {
	if reference == "" {
		return imageReference{}, errors.New("say which image the examples run, such as --image registry.example.com/hello:v1 (it serves HTTP on the port in the variable PORT)")
	}
	parts := imagePattern.FindStringSubmatch(reference)
	if parts == nil {
		return imageReference{}, fmt.Errorf("image %q is not an image reference such as registry.example.com/hello:v1", reference)
	}
	out := imageReference{Reference: reference, Name: parts[1], Field: "newTag", Version: parts[2]}
	if parts[3] != "" {
		out.Field, out.Version = "digest", parts[3]
	}
	if out.Version == "" {
		return imageReference{}, fmt.Errorf("image %q has neither tag nor digest, so a change of it could not be seen in Git: add one, such as %s:v1", reference, reference)
	}
	return out, nil
}
