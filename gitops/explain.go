package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// explainBuild turns an error of kustomize into one that names the file and, where
// it can be found, the line. kustomize itself wraps the error once for each folder
// on the way down and mostly names none.
func explainBuild(fSys *readOnly, overlay Overlay, err error) error {
	var source *SourceError
	if errors.As(err, &source) {
		return source
	}
	if fSys.refused != nil {
		if found := missingFile(fSys); found != nil {
			return found
		}
		return fSys.refused
	}
	for _, find := range []func(*readOnly) *SourceError{brokenYAML, brokenKustomization, missingFile} {
		if found := find(fSys); found != nil {
			return found
		}
	}
	message := innermost(err.Error())
	if found := patchWithoutTarget(fSys, message); found != nil {
		return found
	}
	return &SourceError{File: fSys.tree.kustomizationFile(overlay.Path), Message: message}
}

// yamlLine is where the YAML parser says that it stopped.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// brokenYAML finds a file that was read and is no YAML.
func brokenYAML(fSys *readOnly) *SourceError {
	for _, file := range slices.Sorted(maps.Keys(fSys.read)) {
		if !isYAML(file) {
			continue
		}
		data := fSys.read[file]
		if !utf8.Valid(data) {
			return &SourceError{File: file, Line: lineOfInvalid(data), Message: "is not UTF-8 text"}
		}
		_, err := documents(data)
		if err == nil {
			continue
		}
		// What the parser quotes may be the value of a Secret.
		message := quoted.ReplaceAllString(strings.TrimPrefix(firstLine(err.Error()), "yaml: "), "…")
		line := 0
		if at := yamlLine.FindStringSubmatch(message); at != nil {
			line, _ = strconv.Atoi(at[1])
			message = yamlLine.ReplaceAllString(message, "")
		}
		return &SourceError{File: file, Line: line, Message: "is not YAML: " + message}
	}
	return nil
}

// quoted is what the YAML parser takes from the file into what it says.
var quoted = regexp.MustCompile("'.*'|\".*\"|`.*`")

// lineOfInvalid is the first line that is not UTF-8.
func lineOfInvalid(data []byte) int {
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return i + 1
		}
	}
	return 0
}

func isYAML(file string) bool {
	return isKustomizationFile(file) || slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(file))
}

// unknownField is what encoding/json says of a field that a struct does not have.
var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// brokenKustomization finds a kustomization file with a field that kustomize does
// not have, or with a wrong kind of value in one.
func brokenKustomization(fSys *readOnly) *SourceError {
	for _, file := range slices.Sorted(maps.Keys(fSys.read)) {
		if !isKustomizationFile(file) {
			continue
		}
		data := fSys.read[file]
		var kustomization types.Kustomization
		err := kustomization.Unmarshal(data)
		if err == nil {
			kustomization.FixKustomization()
			if problems := kustomization.EnforceFields(); len(problems) > 0 {
				return &SourceError{File: file, Message: problems[0]}
			}
			continue
		}
		message := innermost(err.Error())
		line := 0
		if field := unknownField.FindStringSubmatch(message); field != nil {
			line = lineOfKey(data, field[1])
			message = fmt.Sprintf("kustomize has no field %q", field[1])
		}
		return &SourceError{File: file, Line: line, Message: message}
	}
	return nil
}

// missingFile finds where a file is referred to that does not exist.
func missingFile(fSys *readOnly) *SourceError {
	for _, file := range slices.Sorted(maps.Keys(fSys.read)) {
		if !isKustomizationFile(file) || isFetched(file) {
			continue
		}
		docs, err := documents(fSys.read[file])
		if err != nil {
			continue
		}
		for _, doc := range docs {
			for _, scalar := range references(doc.YNode()) {
				if isRemote(scalar.Value) {
					continue // the build says so when it may not be fetched, or can't be
				}
				target := path.Join(path.Dir(file), scalar.Value)
				if why := fSys.tree.whyAbsent(target); why != "" {
					return &SourceError{File: file, Line: scalar.Line, Message: fmt.Sprintf("%s %s", scalar.Value, why)}
				}
				if fSys.Exists(target) {
					if fSys.tree.dirs[target] && fSys.tree.kustomizationFile(target) == "" {
						return &SourceError{File: file, Line: scalar.Line, Message: fmt.Sprintf("the folder %s has no kustomization.yaml", target)}
					}
					continue
				}
				return &SourceError{File: file, Line: scalar.Line, Message: fmt.Sprintf("refers to %s, which does not exist (%s)", scalar.Value, target)}
			}
		}
	}
	return nil
}

// referring are the fields of a kustomization whose values name files or folders.
var referring = map[string]bool{
	"resources": true, "components": true, "bases": true, "configurations": true,
	"crds": true, "patchesStrategicMerge": true, "generators": true,
	"transformers": true, "validators": true,
}

// references are the scalars in a kustomization that can only be the place of a
// file or folder.
func references(kustomization *yaml.Node) []*yaml.Node {
	var out []*yaml.Node
	eachField(kustomization, func(key string, value *yaml.Node) {
		switch {
		case referring[key]:
			out = append(out, plainScalars(value)...)
		case key == "openapi", key == "patches", key == "patchesJson6902", key == "replacements":
			items := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				items = value.Content
			}
			for _, item := range items {
				eachField(item, func(key string, value *yaml.Node) {
					if key == "path" {
						out = append(out, plainScalars(value)...)
					}
				})
			}
		case key == "configMapGenerator", key == "secretGenerator":
			for _, generator := range value.Content {
				eachField(generator, func(key string, value *yaml.Node) {
					if key == "envs" || key == "files" || key == "env" {
						out = append(out, withoutKeys(plainScalars(value))...)
					}
				})
			}
		}
	})
	return out
}

// withoutKeys cuts the name off a generator's file: name=path.
func withoutKeys(scalars []*yaml.Node) []*yaml.Node {
	out := make([]*yaml.Node, len(scalars))
	for i, scalar := range scalars {
		out[i] = scalar
		if _, file, ok := strings.Cut(scalar.Value, "="); ok {
			out[i] = &yaml.Node{Value: file, Line: scalar.Line}
		}
	}
	return out
}

// plainScalars are the scalars of a value or list; text of several lines is a
// document of its own and no place.
func plainScalars(value *yaml.Node) []*yaml.Node {
	var out []*yaml.Node
	for _, node := range append([]*yaml.Node{value}, value.Content...) {
		if node.Kind == yaml.ScalarNode && node.Value != "" && !strings.Contains(node.Value, "\n") && !strings.Contains(node.Value, ": ") {
			out = append(out, node)
		}
	}
	return out
}

// noTarget is what kustomize says of a patch that fits nothing.
var noTarget = regexp.MustCompile(`no (?:resource )?matches? (?:for Id|strategic merge patch) "?([A-Za-z]+)\.[^/"]*/([^.\["; ]+)`)

// patchWithoutTarget finds the patch for an object that there is not.
func patchWithoutTarget(fSys *readOnly, message string) *SourceError {
	target := noTarget.FindStringSubmatch(message)
	if target == nil {
		return nil
	}
	what := fmt.Sprintf("is a patch for %s %s, which the overlay does not have", target[1], target[2])
	for _, file := range slices.Sorted(maps.Keys(fSys.read)) {
		for _, doc := range documentsWithInline(fSys.read[file]) {
			if !doc.inline && !patchFile(fSys, file) {
				continue
			}
			if doc.node.GetKind() == target[1] && doc.node.GetName() == target[2] {
				return &SourceError{File: file, Line: doc.line + 1, Message: what}
			}
		}
	}
	return nil
}

// patchFile reports whether a kustomization refers to the file as a patch.
func patchFile(fSys *readOnly, file string) bool {
	for name, data := range fSys.read {
		if !isKustomizationFile(name) {
			continue
		}
		docs, err := documents(data)
		if err != nil {
			continue
		}
		for _, doc := range docs {
			found := false
			eachField(doc.YNode(), func(key string, value *yaml.Node) {
				if !strings.HasPrefix(key, "patches") {
					return
				}
				for _, place := range references(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: key}, value}}) {
					found = found || path.Join(path.Dir(name), place.Value) == file
				}
			})
			if found {
				return true
			}
		}
	}
	return false
}

var (
	pluginConfig = regexp.MustCompile(" with config: `.*`")
	patchFields  = regexp.MustCompile(`(must specify one of patch and path|patch and path can't be set at the same time) .*`)
	patchText    = regexp.MustCompile(`\[patch: "(?:[^"\\]|\\.)*"\]`)
)

// innermost drops the wrapping that kustomize puts around an error for each folder
// it passes.
func innermost(message string) string {
	message = strings.ReplaceAll(message, "\n", " ")
	// The configuration of a plugin, and the text of a patch, whole.
	message = pluginConfig.ReplaceAllString(message, "")
	message = patchFields.ReplaceAllString(message, "$1")
	message = patchText.ReplaceAllString(message, "an inline patch")
	for _, wrap := range []*regexp.Regexp{
		regexp.MustCompile(`^accumulating (?:resources|components): `),
		regexp.MustCompile(`^accumulation err='.*?': `),
		regexp.MustCompile(`^accumulateDirectory: `),
		regexp.MustCompile(`^recursed (?:accumulation|merging) of path '[^']*': `),
	} {
		for next := wrap.ReplaceAllString(message, ""); next != message; next = wrap.ReplaceAllString(message, "") {
			message = next
		}
	}
	return strings.TrimSpace(strings.TrimPrefix(message, "invalid Kustomization: "))
}
