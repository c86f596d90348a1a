package gitops

import (
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// notReferences are the fields of a kustomization, or of the configuration of a
// built-in plugin, that hold text and never the place of a file.
var notReferences = map[string]bool{
	"literals": true, "patch": true, "jsonOp": true, "images": true, "metadata": true,
	"commonAnnotations": true, "commonLabels": true, "labels": true, "annotations": true,
	"options": true, "generatorOptions": true, "vars": true,
}

// refuseRemote finds references that kustomize would fetch over the network.
// What is rendered must follow from the repository alone; and a check that a
// stranger's pull request runs through must not call where that request says.
func refuseRemote(file string, data []byte) error {
	document, err := yaml.Parse(string(data))
	if err != nil {
		return nil // kustomize itself says what is wrong
	}
	found := findRemote(document.YNode())
	if found == nil {
		return nil
	}
	return &SourceError{
		File: file, Line: found.Line,
		Message: fmt.Sprintf("%q lies outside the repository and is not fetched", found.Value),
		Hint:    "copy it into the repository, or add a Flux source of its own for it",
	}
}

func findRemote(node *yaml.Node) *yaml.Node {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if notReferences[node.Content[i].Value] {
				continue
			}
			if found := findRemote(node.Content[i+1]); found != nil {
				return found
			}
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		for _, child := range node.Content {
			if found := findRemote(child); found != nil {
				return found
			}
		}
	case yaml.ScalarNode:
		if strings.ContainsRune(node.Value, '\n') {
			// An inline plugin configuration; its lines count from where it stands.
			inline, err := yaml.Parse(node.Value)
			if err != nil {
				return nil
			}
			if found := findRemote(inline.YNode()); found != nil {
				return &yaml.Node{Value: found.Value, Line: node.Line + found.Line}
			}
			return nil
		}
		if isRemote(node.Value) {
			return node
		}
	}
	return nil
}

// sshPlace is user@host:path or user@host/path.
var sshPlace = regexp.MustCompile(`^[^/]*@[^/]*[:/]`)

// isRemote reports whether kustomize would take a reference for a URL or for a
// Git repository; rather too much than too little.
func isRemote(reference string) bool {
	lower := strings.ToLower(reference)
	// A generator's file may have a key before it: key=https://…
	if key, value, ok := strings.Cut(lower, "="); ok && !strings.Contains(key, "/") {
		lower = value
	}
	return strings.Contains(lower, "://") || strings.HasPrefix(lower, "git::") || strings.HasPrefix(lower, "github.com") || sshPlace.MatchString(lower)
}
