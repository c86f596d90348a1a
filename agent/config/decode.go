package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// setting is a place in the file: fields, or text.
type setting interface {
	// set reads the node and returns all that is wrong with it.
	set(path string, node *yaml.Node) []error
}

// fields are settings below a name.
type fields map[string]setting

// text is a setting that is a single word or number.
type text func(string) error

// flag is a setting that is true or false.
type flag func(bool)

// list is a setting of any number of words or numbers.
type list func([]string) error

// decode reads one YAML document into the settings.
func decode(data []byte, into fields) []error {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // an empty file: defaults
	case err != nil:
		return []error{err}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return []error{errors.New("there is more than one document in the file")}
	}
	return into.set("", doc.Content[0])
}

func (f fields) set(path string, node *yaml.Node) []error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return []error{fail(node, path, fmt.Errorf("is %s, want fields: %s", kind(node), f.names()))}
	}
	var errs []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		full := join(path, key.Value)
		s, known := f[key.Value]
		switch {
		case !known:
			errs = append(errs, fail(key, full, fmt.Errorf("is unknown%s", f.suggest(key.Value))))
		case seen[key.Value]:
			errs = append(errs, fail(key, full, errors.New("is there twice")))
		default:
			errs = append(errs, s.set(full, value)...)
		}
		seen[key.Value] = true
	}
	return errs
}

func (t text) set(path string, node *yaml.Node) []error {
	if node.Kind != yaml.ScalarNode {
		return []error{fail(node, path, fmt.Errorf("is %s, want a single value", kind(node)))}
	}
	if node.Tag == "!!null" {
		return nil
	}
	if node.Tag != "!!str" {
		return []error{fail(node, path, fmt.Errorf("is %s, want text; put %q in quotes if it is meant", kind(node), node.Value))}
	}
	if err := t(node.Value); err != nil {
		return []error{fail(node, path, err)}
	}
	return nil
}

func (f flag) set(path string, node *yaml.Node) []error {
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil
	case node.Kind != yaml.ScalarNode || node.Tag != "!!bool":
		return []error{fail(node, path, fmt.Errorf("is %s, want true or false", kind(node)))}
	}
	var is bool
	if err := node.Decode(&is); err != nil {
		return []error{fail(node, path, err)}
	}
	f(is)
	return nil
}

func (l list) set(path string, node *yaml.Node) []error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		return []error{fail(node, path, fmt.Errorf("is %s, want a list: [one, two]", kind(node)))}
	}
	values := []string{}
	for _, one := range node.Content {
		if one.Kind != yaml.ScalarNode || one.Tag != "!!str" && one.Tag != "!!int" {
			return []error{fail(one, path, fmt.Errorf("has %s in it, want words or numbers", kind(one)))}
		}
		values = append(values, one.Value)
	}
	if err := l(values); err != nil {
		return []error{fail(node, path, err)}
	}
	return nil
}

func fail(node *yaml.Node, path string, err error) error {
	if path == "" {
		return fmt.Errorf("line %d: the file %w", node.Line, err)
	}
	return fmt.Errorf("line %d: field %s: %w", node.Line, path, err)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func kind(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "fields"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Kind == yaml.AliasNode:
		return "an alias"
	case node.Tag == "!!int", node.Tag == "!!float":
		return "a number"
	case node.Tag == "!!bool":
		return "true or false"
	}
	return "text"
}

func (f fields) names() string { return strings.Join(slices.Sorted(maps.Keys(f)), ", ") }

// suggest names the field that was probably meant, or all that there are.
func (f fields) suggest(name string) string {
	best, least := "", 3
	for _, candidate := range slices.Sorted(maps.Keys(f)) {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known are " + f.names()
}

// distance is the Levenshtein distance: how many letters have to be put in, taken
// out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
