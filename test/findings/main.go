// Findings has gosec look at the code that is shipped and govulncheck at its binaries,
// and holds what they find to a list in which each finding that stays is argued. One that
// is not there fails, and so does an entry that nothing matches any more.
// Vulnerabilities of Go's own library are told and fail nothing: which Go builds it is
// not in this repository.
//
//	findings check LIST DATABASE BINARY...  in the module's folder
//	findings index ENTRIES DATABASE         makes govulncheck's database of a folder of entries
//
// It is a module of its own, because gosec's requirements are none of the product's.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/securego/gosec/v2"
	"github.com/securego/gosec/v2/analyzers"
	"github.com/securego/gosec/v2/issue"
	"github.com/securego/gosec/v2/rules"
	"golang.org/x/vuln/scan"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) >= 4 && args[0] == "check":
		err = check(context.Background(), args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "index":
		err = index(args[1], args[2])
	default:
		err = errors.New("usage: findings check LIST DATABASE BINARY..., or findings index ENTRIES DATABASE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, list, database string, binaries []string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	argued, err := readList(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	found := map[key][]string{}
	for _, binary := range binaries {
		if err := runGovulncheck(ctx, database, binary, found); err != nil {
			return fmt.Errorf("govulncheck of %s: %w", binary, err)
		}
	}
	if err := runGosec(ctx, found); err != nil {
		return fmt.Errorf("gosec: %w", err)
	}
	for _, line := range takeLibrary(found) {
		fmt.Fprintln(os.Stderr, "note:", line)
	}
	if wrong := compare(found, argued); len(wrong) > 0 {
		return fmt.Errorf("%s\nfix each, or argue it in %s", strings.Join(wrong, "\n"), list)
	}
	return nil
}

// runGosec looks at the module's packages that are in a command.
func runGosec(ctx context.Context, found map[key][]string) error {
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.Dir}}{{end}}{{end}}", "./cmd/...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("%v: %w", list.Args, err)
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	analyzer := gosec.NewAnalyzer(gosec.NewConfig(), false, true, false, runtime.GOMAXPROCS(0), log.New(io.Discard, "", 0))
	analyzer.LoadRules(rules.Generate(false).RulesInfo())
	analyzer.LoadAnalyzers(analyzers.Generate(false).AnalyzersInfo())
	if err := analyzer.Process(nil, strings.Fields(string(out))...); err != nil {
		return err
	}
	issues, metrics, failures := analyzer.Report()
	if len(failures) > 0 || metrics.NumFiles == 0 {
		return fmt.Errorf("it has read %d files and says %v", metrics.NumFiles, failures)
	}
	return addIssues(issues, root, found)
}

func runGovulncheck(ctx context.Context, database, binary string, found map[key][]string) error {
	var out bytes.Buffer
	command := scan.Command(ctx, "-db", database, "-mode", "binary", "-format", "json", binary)
	command.Stdout = &out
	if err := command.Start(); err != nil {
		return err
	}
	if err := command.Wait(); err != nil {
		return err
	}
	return readGovulncheck(out.Bytes(), found)
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

// addIssues adds what gosec found, each with its place in words.
func addIssues(issues []*issue.Issue, root string, found map[key][]string) error {
	for _, i := range issues {
		file, err := filepath.Rel(root, i.File)
		if err != nil {
			return err
		}
		k := key{i.RuleID, file}
		found[k] = append(found[k], fmt.Sprintf("%s:%s: %s: %s", file, i.Line, i.RuleID, i.What))
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
