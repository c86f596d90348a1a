package gitops

import (
	"bytes"
	"fmt"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// maxNodes bounds what the aliases of a file may come to; kustomize has no bound.
const maxNodes = 1 << 20

// refuseEndless finds an anchor that has an alias to itself within, which would end the
// program when kustomize follows it, and aliases that multiply beyond all measure.
func refuseEndless(file string, data []byte) error {
	if !bytes.Contains(data, []byte("&")) || !bytes.Contains(data, []byte("*")) {
		return nil
	}
	for _, doc := range documentsWithInline(data) {
		walk := aliasWalk{within: map[*yaml.Node]bool{}}
		if why := walk.follow(doc.node.YNode()); why != "" {
			return &SourceError{File: file, Line: doc.line + walk.line, Message: fmt.Sprintf("has an alias that %s", why)}
		}
	}
	return nil
}

type aliasWalk struct {
	within map[*yaml.Node]bool
	nodes  int
	// line is the last alias's.
	line int
}

// follow says what is wrong with the aliases in a node; empty when nothing is.
func (w *aliasWalk) follow(node *yaml.Node) string {
	if w.nodes++; w.nodes > maxNodes {
		return "multiplies beyond all measure"
	}
	if node.Kind == yaml.AliasNode {
		w.line = node.Line
		node = node.Alias
	}
	if node == nil {
		return ""
	}
	if w.within[node] {
		return "lies within its own anchor"
	}
	w.within[node] = true
	defer delete(w.within, node)
	for _, child := range node.Content {
		if why := w.follow(child); why != "" {
			return why
		}
	}
	return ""
}
