package gitops

import (
	"encoding/base64"
	"errors"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// concealed stands where a message has the value of a Secret.
const concealed = "…"

// conceal takes the values of Secrets out of what kustomize says: it quotes literals,
// lines of files and whole objects.
func conceal(fSys *readOnly, err error) error {
	values := secretValues(fSys)
	if len(values) == 0 {
		return err
	}
	var source *SourceError
	if errors.As(err, &source) {
		out := *source
		out.Message = withoutValues(source.Message, values)
		return &out
	}
	return errors.New(withoutValues(err.Error(), values))
}

// wordLength is from where on a value is taken out of the middle of words too: a
// shorter one, such as a digit, would take the message with it.
const wordLength = 4

// withoutValues takes values out of a message, longer ones first.
func withoutValues(message string, values []string) string {
	for _, value := range values {
		switch {
		case len(value) >= wordLength:
			message = strings.ReplaceAll(message, value, concealed)
		case strings.Contains(message, value):
			message = regexp.MustCompile(`(^|\W)`+regexp.QuoteMeta(value)+`(\W|$)`).ReplaceAllString(message, "${1}"+concealed+"${2}")
		}
	}
	return message
}

// secretValues are the texts in the files that were read that only a Secret may have,
// in the ways in which a message may quote them, longer ones first.
func secretValues(fSys *readOnly) []string {
	found := secretTexts{}
	for file := range fSys.read {
		for _, doc := range documentsWithInline(fSys.read[file]) {
			found.addDocument(fSys, file, doc.node.YNode())
		}
	}
	out := slices.Collect(maps.Keys(found))
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return out
}

type secretTexts map[string]bool

func (s secretTexts) add(text string) {
	for _, way := range []string{text, strings.ReplaceAll(text, "\n", " "), strings.Trim(strconv.Quote(text), `"`)} {
		if way = strings.TrimSpace(way); way != "" {
			s[way] = true
		}
	}
}

// addText adds a value, its lines, and what it is the base64 of.
func (s secretTexts) addText(text string) {
	s.add(text)
	for line := range strings.Lines(text) {
		s.add(line)
	}
	if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil && utf8.Valid(plain) {
		s.add(string(plain))
	}
}

func (s secretTexts) addScalars(node *yaml.Node) {
	if node.Kind == yaml.ScalarNode {
		s.addText(node.Value)
	}
	for i, child := range node.Content {
		// Of a mapping the values.
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		s.addScalars(child)
	}
}

// addDocument adds what is secret in an object, a patch, a kustomization or the
// configuration of a generator.
func (s secretTexts) addDocument(fSys *readOnly, file string, node *yaml.Node) {
	switch node.Kind {
	case yaml.DocumentNode:
		for _, child := range node.Content {
			s.addDocument(fSys, file, child)
		}
	case yaml.SequenceNode:
		for _, op := range node.Content {
			s.addOperation(op)
		}
	case yaml.MappingNode:
		kind := scalarField(node, "kind")
		eachField(node, func(key string, value *yaml.Node) {
			switch {
			case key == "secretGenerator":
				for _, generator := range value.Content {
					s.addGenerator(fSys, file, generator)
				}
			case key == "items" && value.Kind == yaml.SequenceNode && strings.HasSuffix(kind, "List"):
				for _, item := range value.Content {
					s.addDocument(fSys, file, item)
				}
			case key == "stringData", key == "data" && kind != "ConfigMap", kind == "Secret" && !publicInSecret[key]:
				s.addScalars(value)
			}
		})
		if kind == "SecretGenerator" {
			s.addGenerator(fSys, file, node)
		}
	}
}

// publicInSecret are the fields of a Secret that are none.
var publicInSecret = map[string]bool{"apiVersion": true, "kind": true, "metadata": true, "type": true, "immutable": true, "sops": true}

// addOperation adds what an operation of a JSON patch writes into data.
func (s secretTexts) addOperation(op *yaml.Node) {
	at := scalarField(op, "path")
	if !strings.HasPrefix(at, "/data") && !strings.HasPrefix(at, "/stringData") {
		return
	}
	eachField(op, func(key string, value *yaml.Node) {
		if key == "value" {
			s.addScalars(value)
		}
	})
}

// addGenerator adds what a generator makes a Secret of.
func (s secretTexts) addGenerator(fSys *readOnly, file string, generator *yaml.Node) {
	eachField(generator, func(key string, value *yaml.Node) {
		switch key {
		case "literals":
			for _, scalar := range plainOrListed(value) {
				s.addAssignment(scalar.Value)
			}
		case "envs", "env", "files":
			for _, scalar := range withoutKeys(plainOrListed(value)) {
				content := string(fSys.read[path.Join(path.Dir(file), scalar.Value)])
				s.addText(content)
				if key == "files" {
					continue
				}
				for line := range strings.Lines(content) {
					s.addAssignment(line)
				}
			}
		}
	})
}

// variableName is what may stand before the = of a literal or a line.
var variableName = regexp.MustCompile(`^\s*[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// addAssignment adds the value of key=value, and all of what is none: there the value
// may be anywhere.
func (s secretTexts) addAssignment(text string) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		s.addText(text)
		return
	}
	s.addText(value)
	s.addText(strings.Trim(strings.TrimSpace(value), `"'`))
	if !variableName.MatchString(key) {
		s.addText(key)
		s.addText(text)
	}
}

// plainOrListed are the scalars of a value or of a list.
func plainOrListed(value *yaml.Node) []*yaml.Node {
	var out []*yaml.Node
	for _, node := range append([]*yaml.Node{value}, value.Content...) {
		if node.Kind == yaml.ScalarNode {
			out = append(out, node)
		}
	}
	return out
}

func scalarField(node *yaml.Node, name string) string {
	out := ""
	eachField(node, func(key string, value *yaml.Node) {
		if key == name && value.Kind == yaml.ScalarNode {
			out = value.Value
		}
	})
	return out
}
