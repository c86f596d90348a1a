// Findings holds what gosec and govulncheck find to a list in which each finding that
// stays is argued. One that is not there fails, and so does an entry that nothing matches
// any more. Vulnerabilities of Go's own library are told and fail nothing: which Go
// builds it is not in this repository.
//
//	findings check LIST GOSEC.json GOVULNCHECK.json...
//	findings index ENTRIES DATABASE    makes govulncheck's database of a folder of entries
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) >= 4 && args[0] == "check":
		err = check(args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "index":
		err = index(args[1], args[2])
	default:
		err = errors.New("usage: findings check LIST GOSEC.json GOVULNCHECK.json..., or findings index ENTRIES DATABASE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(list, gosec string, govulncheck []string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	found := map[key][]string{}
	if err := read(gosec, func(data []byte) error { return readGosec(data, root, found) }); err != nil {
		return err
	}
	for _, path := range govulncheck {
		if err := read(path, func(data []byte) error { return readGovulncheck(data, found) }); err != nil {
			return err
		}
	}
	for _, line := range takeLibrary(found) {
		fmt.Fprintln(os.Stderr, "note:", line)
	}
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	argued, err := readList(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	if wrong := compare(found, argued); len(wrong) > 0 {
		return fmt.Errorf("%s\nfix each, or argue it in %s", strings.Join(wrong, "\n"), list)
	}
	return nil
}

func read(path string, into func([]byte) error) error {
	data, err := os.ReadFile(path)
	if err == nil {
		err = into(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// takeLibrary takes out what is of Go's own library.
func takeLibrary(found map[key][]string) []string {
	var lines []string
	for k, places := range found {
		if k.where == "stdlib" {
			lines = append(lines, places...)
			delete(found, k)
		}
	}
	slices.Sort(lines)
	return lines
}

// key is a rule of gosec's in a file, or a vulnerability in a module.
type key struct{ rule, where string }

// readGosec adds what gosec found, each with its place in words.
func readGosec(data []byte, root string, found map[key][]string) error {
	var out struct {
		Errors map[string]any `json:"Golang errors"`
		Issues []struct {
			RuleID  string `json:"rule_id"`
			File    string `json:"file"`
			Line    string `json:"line"`
			Details string `json:"details"`
		}
		Stats struct {
			Files int `json:"files"`
		}
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return err
	}
	if len(out.Errors) > 0 || out.Stats.Files == 0 {
		return fmt.Errorf("gosec has read %d files and says %v", out.Stats.Files, out.Errors)
	}
	for _, i := range out.Issues {
		file, err := filepath.Rel(root, i.File)
		if err != nil {
			return err
		}
		k := key{i.RuleID, file}
		found[k] = append(found[k], fmt.Sprintf("%s:%s: %s: %s", file, i.Line, i.RuleID, i.Details))
	}
	return nil
}

// readGovulncheck adds the vulnerabilities whose code is in a binary, each once.
func readGovulncheck(data []byte, found map[key][]string) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	scanned := false
	for {
		var m struct {
			SBOM    json.RawMessage `json:"SBOM"`
			Finding *struct {
				OSV   string `json:"osv"`
				Fixed string `json:"fixed_version"`
				Trace []struct {
					Module, Version, Function string
				}
			}
		}
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			if !scanned {
				return errors.New("govulncheck has scanned nothing")
			}
			return nil
		case err != nil:
			return err
		}
		scanned = scanned || m.SBOM != nil
		f := m.Finding
		if f == nil || len(f.Trace) == 0 || f.Trace[0].Function == "" {
			continue
		}
		at := f.Trace[0]
		found[key{f.OSV, at.Module}] = []string{fmt.Sprintf("%s in %s %s; fixed in %s: https://pkg.go.dev/vuln/%s", f.OSV, at.Module, at.Version, cmp.Or(f.Fixed, "no version"), f.OSV)}
	}
}

// entry is a line of the list: | rule | where | how many | why it stays |.
var entry = regexp.MustCompile("^\\| `?(G[0-9]+|GO-[0-9-]+)`? \\| `?([^|`]+)`? \\| ([0-9]+) \\| (.*) \\|$")

func readList(text string) (map[key]int, error) {
	argued := map[key]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| G") && !strings.HasPrefix(line, "| `G") {
			continue
		}
		m := entry.FindStringSubmatch(line)
		if m == nil || strings.TrimSpace(m[4]) == "" {
			return nil, fmt.Errorf("can't read %q, want | rule | where | how many | why it stays |", line)
		}
		k := key{m[1], strings.TrimSpace(m[2])}
		if _, twice := argued[k]; twice {
			return nil, fmt.Errorf("%s in %s is there twice", k.rule, k.where)
		}
		n, err := strconv.Atoi(m[3])
		if err != nil {
			return nil, err
		}
		argued[k] = n
	}
	return argued, nil
}

// compare says what is found and not argued, and what is argued and not found.
func compare(found map[key][]string, argued map[key]int) []string {
	var wrong []string
	for k, places := range found {
		if len(places) > argued[k] {
			wrong = append(wrong, places...)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(argued), func(a, b key) int { return strings.Compare(a.where+a.rule, b.where+b.rule) }) {
		if n := len(found[k]); n < argued[k] {
			wrong = append(wrong, fmt.Sprintf("%s in %s is argued %d times and found %d times: correct the list", k.rule, k.where, argued[k], n))
		}
	}
	slices.Sort(wrong)
	return wrong
}
