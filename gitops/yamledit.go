package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/utils/diff"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// editYAML changes a YAML document and leaves the text alone as far as it can:
// comments, order, indentation, empty lines, and how lines end.
func editYAML(data []byte, edit func(*yaml.RNode) error) ([]byte, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	docs, err := documents([]byte(text))
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, errors.New("is not one YAML document")
	}
	// A file may have both styles; then the other one may be that of what changes.
	styles := []yaml.SequenceIndentStyle{yaml.CompactSequenceStyle, yaml.WideSequenceStyle}
	if yaml.DeriveSeqIndentStyle(text) == string(yaml.WideSequenceStyle) {
		slices.Reverse(styles)
	}
	var before [2]string
	for i, style := range styles {
		if before[i], err = encodeYAML(docs[0], style); err != nil {
			return nil, err
		}
	}
	if err := edit(docs[0]); err != nil {
		return nil, err
	}
	out := ""
	for i, style := range styles {
		after, err := encodeYAML(docs[0], style)
		if err != nil {
			return nil, err
		}
		out = first(out, after)
		if transferred, ok := transfer(before[i], after, text); ok && encodesTo(transferred, style, after) {
			out = transferred
			break
		}
	}
	if strings.Contains(string(data), "\r\n") {
		out = strings.ReplaceAll(out, "\n", "\r\n")
	}
	return []byte(out), nil
}

// encodesTo reports whether text says the same as what the encoder wrote.
func encodesTo(text string, style yaml.SequenceIndentStyle, want string) bool {
	docs, err := documents([]byte(text))
	if err != nil || len(docs) != 1 {
		return false
	}
	got, err := encodeYAML(docs[0], style)
	return err == nil && got == want
}

func encodeYAML(node *yaml.RNode, style yaml.SequenceIndentStyle) (string, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoderWithOptions(&out, &yaml.EncoderOptions{SeqIndent: style})
	if err := encoder.Encode(node.Document()); err != nil {
		return "", fmt.Errorf("encode YAML: %w", err)
	}
	return out.String(), encoder.Close()
}

// transfer makes the changes between before and after in text, which has the lines
// of before and some more. It gives up where a line that changes has no counterpart.
func transfer(before, after, text string) (string, bool) {
	lines := strings.SplitAfter(text, "\n")
	// counterpart of each line of before in text; -1 for none.
	var counterpart []int
	at := 0
	for _, d := range diff.Do(before, text) {
		n := len(splitLines(d.Text))
		for range n {
			switch {
			case d.Type == 0:
				counterpart = append(counterpart, at)
				at++
			case d.Type < 0:
				counterpart = append(counterpart, -1)
			default:
				at++
			}
		}
	}
	gone := map[int]bool{}
	// added is what comes after a line of text; after -1 at the beginning.
	added := map[int]string{}
	line := 0
	for _, d := range diff.Do(before, after) {
		switch {
		case d.Type == 0:
			line += len(splitLines(d.Text))
		case d.Type < 0:
			for range splitLines(d.Text) {
				if counterpart[line] < 0 {
					return "", false
				}
				gone[counterpart[line]] = true
				line++
			}
		default:
			place := -1
			if line > 0 {
				if place = counterpart[line-1]; place < 0 {
					return "", false
				}
			}
			added[place] += d.Text
		}
	}
	var out strings.Builder
	out.WriteString(added[-1])
	for i, l := range lines {
		if !gone[i] {
			out.WriteString(l)
		}
		out.WriteString(added[i])
	}
	return out.String(), true
}

// splitLines takes text apart into its lines.
func splitLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
