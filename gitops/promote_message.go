package gitops

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Message is what the commit says, unless somebody says something else.
func (p Promotion) Message() string {
	var body strings.Builder
	names := map[string]bool{}
	for _, change := range p.Changes {
		names[change.Object[strings.LastIndexAny(change.Object, " /")+1:]] = true
		fmt.Fprintf(&body, "%s: %s: %s\n", change.Object, change.Field, fromTo(change))
	}
	for _, image := range p.Images {
		if len(p.Changes) == 0 {
			fmt.Fprintf(&body, "image %s: %s, which nothing runs yet\n", image.Name, image.New)
		}
	}
	what := listed(slices.Sorted(maps.Keys(names)))
	if len(p.Images) > 0 {
		var images []string
		for _, image := range p.Images {
			images = append(images, strings.TrimSpace(image.Name+" "+image.version()))
		}
		what = strings.Join(images, ", ")
	}
	subject := fmt.Sprintf("Promote %s from %s to %s", what, p.From, p.To)
	if len(subject) > maxSubject {
		subject = fmt.Sprintf("Promote %s from %s to %s", counted(len(p.Changes), "field"), p.From, p.To)
	}
	return subject + "\n\n" + body.String()
}

// maxSubject is how many characters of a commit's first line are shown everywhere.
const maxSubject = 72

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func fromTo(change FieldChange) string {
	switch {
	case change.Old == nil:
		return "added"
	case change.New == nil:
		return "removed"
	}
	if isScalar(change.Old) && isScalar(change.New) {
		return fmt.Sprintf("%v -> %v", change.Old, change.New)
	}
	return "changed"
}

func isScalar(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}
