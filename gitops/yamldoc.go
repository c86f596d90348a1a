package gitops

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// document is one YAML document of a file, or one that stands as text inside
// another, as an inline patch does.
type document struct {
	node *yaml.RNode
	// line is what has to be added to the node's lines to have the file's.
	line   int
	inline bool
}

// documents parses a file into its YAML documents; the lines are the file's.
func documents(data []byte) ([]*yaml.RNode, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var out []*yaml.RNode
	for {
		node := &yaml.Node{}
		err := decoder.Decode(node)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, yaml.NewRNode(node))
	}
}

// documents are the YAML documents of a file that was read, and those inside them.
func (r *readOnly) documents(file string) []document {
	docs, ok := r.parsed[file]
	if !ok {
		docs = documentsWithInline(r.read[file])
		r.parsed[file] = docs
	}
	return docs
}

// documentsWithInline is documents and the ones inside them.
func documentsWithInline(data []byte) []document {
	nodes, _ := documents(data) // what can be read is enough to look through
	var out []document
	for _, node := range nodes {
		out = append(out, document{node: node})
		out = append(out, inlineDocuments(node.YNode())...)
	}
	return out
}

func inlineDocuments(node *yaml.Node) []document {
	if node.Kind != yaml.ScalarNode {
		var out []document
		for _, child := range node.Content {
			out = append(out, inlineDocuments(child)...)
		}
		return out
	}
	if !strings.Contains(node.Value, "\n") {
		return nil
	}
	nodes, err := documents([]byte(node.Value))
	if err != nil {
		return nil
	}
	var out []document
	for _, inner := range nodes {
		if inner.YNode().Kind == yaml.MappingNode || inner.YNode().Kind == yaml.SequenceNode {
			out = append(out, document{node: inner, line: node.Line, inline: true})
		}
	}
	return out
}

// eachField calls f for every field of a mapping.
func eachField(node *yaml.Node, f func(key string, value *yaml.Node)) {
	if node == nil || node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		f(node.Content[i].Value, node.Content[i+1])
	}
}

// lineOfKey is the first line where a mapping has the key; 0 when none has.
func lineOfKey(data []byte, key string) int {
	docs, _ := documents(data)
	for _, doc := range docs {
		if line := findKey(doc.YNode(), key); line > 0 {
			return line
		}
	}
	return 0
}

func findKey(node *yaml.Node, key string) int {
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				return node.Content[i].Line
			}
		}
	}
	for _, child := range node.Content {
		if line := findKey(child, key); line > 0 {
			return line
		}
	}
	return 0
}
