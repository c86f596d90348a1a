package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// The table of a page stands between these lines.
const (
	tableBegin = "<!-- fields: written by make generate -->\n"
	tableEnd   = "<!-- end of fields -->\n"
)

// updateFieldTable writes the table of a kind's fields into its page.
func updateFieldTable(page string, crd *apiextensionsv1.CustomResourceDefinition) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("every kind has a page: %w", err)
	}
	before, rest, begins := bytes.Cut(text, []byte(tableBegin))
	_, after, ends := bytes.Cut(rest, []byte(tableEnd))
	if !begins || !ends {
		return fmt.Errorf("%s has no place for the table of fields: the lines %q and %q", page, tableBegin, tableEnd)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	var table bytes.Buffer
	for _, part := range []string{"spec", "status"} {
		property := schema.Properties[part]
		fmt.Fprintf(&table, "\n### %s\n\n| field | type | meaning |\n| --- | --- | --- |\n", part)
		rows(&table, part, &property)
	}
	table.WriteString("\n")
	return os.WriteFile(page, slices.Concat(before, []byte(tableBegin), table.Bytes(), []byte(tableEnd), after), 0o644)
}

// rows writes a line for each field below a schema.
func rows(out *bytes.Buffer, path string, s *apiextensionsv1.JSONSchemaProps) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		field := path + "." + name
		kind, below := describe(&property)
		meaning := oneLine(property.Description)
		if slices.Contains(s.Required, name) {
			meaning = "**Required.** " + meaning
		}
		if property.Default != nil && string(property.Default.Raw) != "{}" {
			meaning += fmt.Sprintf(" Default: `%s`.", property.Default.Raw)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", field, kind, meaning)
		switch {
		// What Kubernetes itself describes is not repeated.
		case name == "conditions" || name == "targetSelector":
		case below != nil:
			if kind == "list" {
				field += "[]"
			}
			rows(out, field, below)
		}
	}
}

// describe is a field's type in a word, and the schema of what is below it.
func describe(s *apiextensionsv1.JSONSchemaProps) (string, *apiextensionsv1.JSONSchemaProps) {
	switch {
	case s.XIntOrString:
		return "number or text", nil
	case s.Type == "array" && s.Items != nil && s.Items.Schema != nil:
		if len(s.Items.Schema.Properties) > 0 {
			return "list", s.Items.Schema
		}
		word, _ := describe(s.Items.Schema)
		return "list of " + word, nil
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		word, _ := describe(s.AdditionalProperties.Schema)
		return "map of " + word, nil
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = "`" + strings.Trim(string(v.Raw), `"`) + "`"
		}
		return strings.Join(words, ", "), nil
	case s.Type == "string" && s.Format == "date-time":
		return "time", nil
	case s.Type == "integer":
		return "number", nil
	case s.Type == "string":
		return "text", nil
	}
	return s.Type, s
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
