package gitops

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// overlayCheck judges what one overlay renders to.
type overlayCheck struct {
	overlay  Overlay
	rendered Rendered
	files    *readOnly
	schemas  *Schemas
	findings []Finding
}

func (o Object) is(kind string) bool {
	gvk := o.gvk()
	return gvk.Group == v1alpha1.GroupVersion.Group && gvk.Kind == kind
}

func (o Object) isDevice() bool     { return o.is(v1alpha1.DeviceKind) }
func (o Object) isDeployment() bool { return o.is(v1alpha1.DeploymentKind) }

func (o Object) gvk() schema.GroupVersionKind {
	return (&unstructured.Unstructured{Object: o.Content}).GroupVersionKind()
}

func (o Object) meta() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: o.Content}
}

func (c *overlayCheck) run() []Finding {
	for _, object := range c.rendered.Objects {
		if object.isEncrypted() {
			continue
		}
		gvk := object.gvk()
		known := c.schemas.kinds[gvk]
		switch {
		case known != nil:
			c.fleetObject(object, known)
		case gvk.Group == v1alpha1.GroupVersion.Group:
			c.unknownKind(object, gvk)
		case object.isSecret():
			c.secret(object)
		default:
			c.otherObject(object)
		}
	}
	c.deployments()
	return c.findings
}

// deployments judges what a Deployment's schema can't: what it refers to, and what
// becomes of it. What it refers to may be in the cluster already and not in the
// overlay, so that is a warning.
func (c *overlayCheck) deployments() {
	all := newInventory(c.rendered)
	for _, object := range c.rendered.Objects {
		if !object.isDeployment() || object.isEncrypted() {
			continue
		}
		deployment := &v1alpha1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Content, deployment); err != nil {
			continue // the schema says what is wrong
		}
		c.rollout(object, deployment, all)
		if score := deployment.Spec.Score.Podman; score != nil {
			c.sources(object, sourcesOf(score), all)
			c.images(object, score)
		}
		if score := deployment.Spec.Score.KVM; score != nil {
			c.sources(object, sourcesOfMachines(score), all)
		}
	}
}

func (c *overlayCheck) add(severity Severity, object Object, field, message, hint string) {
	file, line := c.files.locate(c.overlay, object, field)
	c.findings = append(c.findings, Finding{
		Severity: severity, Overlay: c.overlay.Name, File: file, Line: line,
		Object: describe(object), Field: field, Message: message, Hint: hint,
	})
}

func (c *overlayCheck) unknownKind(object Object, gvk schema.GroupVersionKind) {
	if versions := c.schemas.versions(gvk.Group, gvk.Kind); len(versions) > 0 {
		c.add(Error, object, "apiVersion", fmt.Sprintf("%s has no version %s; there is %s", gvk.Kind, gvk.Version, strings.Join(versions, ", ")), "")
		return
	}
	c.add(Error, object, "kind", fmt.Sprintf("the group %s has no kind %s; there are %s and %s", gvk.Group, gvk.Kind, v1alpha1.DeploymentKind, v1alpha1.DeviceKind), "")
}

func (c *overlayCheck) fleetObject(object Object, known *kindSchema) {
	for _, v := range known.check(object.Content) {
		message := v.Message
		hint := ""
		if message == "unknown field" {
			hint = unknownFieldHint(object, v.Field)
		}
		c.add(Error, object, v.Field, message, hint)
	}
	if object.meta().GetNamespace() == "" {
		c.add(Warning, object, "metadata.namespace", "is not set", "give the overlay a namespace, or its Flux Kustomization a targetNamespace")
	}
	if object.isDevice() {
		c.renamed(object)
	}
}

// unknownFieldHint knows where the fields come from that nobody wrote.
func unknownFieldHint(object Object, field string) string {
	if !object.isDeployment() {
		return ""
	}
	switch {
	case field == "spec.replicas":
		return "kustomize's replicas writes it into every kind Deployment; a fleet Deployment runs once on each selected device"
	case field == "spec.selector" || field == "spec.template":
		return "kustomize's labels with selectors or templates, commonLabels and commonAnnotations write it into every kind Deployment; list components/fleet/tidy.yaml under transformers: in the overlay, which takes it out"
	case strings.HasPrefix(field, "spec.score.podman."), strings.HasPrefix(field, machinesField+"."):
		return "kubectl explain fleetdep." + withoutIndices(field[:strings.LastIndex(field, ".")]) + " lists the fields that there are"
	}
	return ""
}

func withoutIndices(field string) string {
	var b strings.Builder
	depth := 0
	for _, r := range field {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// renamed warns of a device that kustomize gave another name: a device's name is
// the identity that it connects with.
func (c *overlayCheck) renamed(object Object) {
	doc := c.files.origin(c.overlay, object)
	if doc == nil {
		return
	}
	written := doc.node.GetName()
	if written == "" || written == object.meta().GetName() {
		return
	}
	c.add(Warning, object, "metadata.name", fmt.Sprintf("kustomize renames device %s to %s", written, object.meta().GetName()),
		"a device's name is the ID that it connects with; list devices.yaml in a kustomization without namePrefix and nameSuffix")
}
