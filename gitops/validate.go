package gitops

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Severity says whether a finding keeps a repository from being valid.
type Severity string

// Severities. An Error is refused by the cluster or breaks the build; a Warning is
// accepted, and probably not what was meant.
const (
	Error   Severity = "Error"
	Warning Severity = "Warning"
)

// Finding is one thing that is wrong in a repository.
type Finding struct {
	Severity Severity `json:"severity"`
	// Overlay in which it was found first.
	Overlay string `json:"overlay"`
	// File is relative to the repository's root, Line counts from 1; 0 is unknown.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Object is the kind, namespace and name, such as Deployment fleet-demo/hello.
	Object string `json:"object,omitempty"`
	// Field is the path of the field in the object.
	Field string `json:"field,omitempty"`
	// Message says what is wrong, Hint what to do about it.
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// String is the finding on one line, as compilers print theirs.
func (f Finding) String() string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Object != "" {
		text = f.Object + ": " + text
	}
	if f.File != "" {
		text = place(f.File, f.Line) + ": " + text
	}
	return text
}

// Report is what came of validating a repository.
type Report struct {
	// Source says in words where the files came from.
	Source string `json:"source"`
	// Overlays that were looked at.
	Overlays []OverlayReport `json:"overlays"`
	// Findings in the order of files and lines; what several overlays have from the
	// same place is there once.
	Findings []Finding `json:"findings"`
}

// OverlayReport is what an overlay came to.
type OverlayReport struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// Objects is how many the overlay renders to; 0 when it can't be built.
	Objects int `json:"objects"`
	// Devices and Deployments among them.
	Devices     int `json:"devices"`
	Deployments int `json:"deployments"`
}

// Count returns how many findings there are of a severity.
func (r Report) Count(severity Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// Validate builds the overlays and judges what they render to, without a cluster and
// without the network. One overlay is judged while the next is built.
func Validate(tree *Tree, overlays []Overlay, schemas *Schemas) Report {
	outcomes := make([]outcome, len(overlays))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for i, overlay := range overlays {
		group.Go(func() error {
			outcomes[i] = judge(tree, overlay, schemas)
			return nil
		})
	}
	_ = group.Wait() // an overlay that can't be built is a finding

	report := Report{Source: tree.Source, Overlays: []OverlayReport{}, Findings: []Finding{}}
	devices := newDeviceNames()
	for _, o := range outcomes {
		report.Overlays = append(report.Overlays, o.summary)
		report.Findings = append(report.Findings, o.findings...)
		if o.check != nil {
			report.Findings = append(report.Findings, devices.add(o.check)...)
		}
	}
	report.Findings = append(report.Findings, staleComponent(tree)...)
	report.Findings = withoutRepetition(report.Findings)
	return report
}

// outcome is what came of one overlay.
type outcome struct {
	summary  OverlayReport
	findings []Finding
	// check is nil when the overlay can't be built.
	check *overlayCheck
}

func judge(tree *Tree, overlay Overlay, schemas *Schemas) outcome {
	out := outcome{summary: OverlayReport{Name: overlay.Name, Path: overlay.Path}}
	rendered, fSys, err := renderWithOrigins(tree, overlay)
	if err != nil {
		out.findings = []Finding{buildFinding(overlay, err)}
		return out
	}
	out.summary.count(rendered)
	out.check = &overlayCheck{overlay: overlay, rendered: rendered, files: fSys, schemas: schemas}
	out.findings = out.check.run()
	return out
}

func (r *OverlayReport) count(rendered Rendered) {
	r.Objects = len(rendered.Objects)
	for _, object := range rendered.Objects {
		switch {
		case object.isDevice():
			r.Devices++
		case object.isDeployment():
			r.Deployments++
		}
	}
}

func buildFinding(overlay Overlay, err error) Finding {
	f := Finding{Severity: Error, Overlay: overlay.Name, Message: err.Error()}
	var source *SourceError
	if errors.As(err, &source) {
		f.File, f.Line, f.Message, f.Hint = source.File, source.Line, source.Message, source.Hint
	}
	return f
}

// withoutRepetition keeps the first of findings that say the same of the same
// place: what is wrong in a base is wrong in all its overlays.
func withoutRepetition(findings []Finding) []Finding {
	seen := map[string]bool{}
	findings = slices.DeleteFunc(findings, func(f Finding) bool {
		key := fmt.Sprint(f.File, "\x00", f.Line, "\x00", f.Field, "\x00", f.Message)
		if f.File == "" || f.Line == 0 {
			key += "\x00" + f.Object
		}
		if seen[key] {
			return true
		}
		seen[key] = true
		return false
	})
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return findings
}

// describe names an object for people.
func describe(o Object) string {
	u := unstructured.Unstructured{Object: o.Content}
	kind := u.GetKind()
	if o.isDeployment() {
		kind = "fleet Deployment"
	}
	name := u.GetName()
	if u.GetNamespace() != "" {
		name = u.GetNamespace() + "/" + name
	}
	return kind + " " + name
}
