package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/securego/gosec/v2/issue"
)

var issues = []*issue.Issue{
	{RuleID: "G304", File: "/src/a/a.go", Line: "3", What: "file inclusion"},
	{RuleID: "G304", File: "/src/a/a.go", Line: "9", What: "file inclusion"},
}

const vulns = `{"SBOM":{"go_version":"go1.26"}}
{"finding":{"osv":"GO-2026-1","fixed_version":"v1.2.3","trace":[{"module":"example.com/m","version":"v1.0.0","function":"Do"}]}}
{"finding":{"osv":"GO-2026-3","trace":[{"module":"stdlib","version":"v1.26.0","function":"Get"}]}}
{"finding":{"osv":"GO-2026-2","trace":[{"module":"example.com/n","version":"v1.0.0"}]}}`

func TestCompare(t *testing.T) {
	const head = "| rule | where | how many | why |\n| --- | --- | --- | --- |\n"
	const first, second = "a/a.go:3: G304: file inclusion", "a/a.go:9: G304: file inclusion"
	const called = `GO-2026-1 in example.com/m v1.0.0; fixed in v1.2.3: https://pkg.go.dev/vuln/GO-2026-1`
	for name, tt := range map[string]struct {
		list string
		want []string
	}{
		"nothing is argued":    {head, []string{called, first, second}},
		"everything is argued": {head + "| G304 | `a/a.go` | 2 | why |\n| GO-2026-1 | example.com/m | 1 | why |\n", nil},
		"one more than argued": {head + "| G304 | a/a.go | 1 | why |\n| GO-2026-1 | example.com/m | 1 | why |\n", []string{first, second}},
		"an entry matches nothing": {head + "| G304 | a/a.go | 3 | why |\n| G101 | b.go | 1 | why |\n| GO-2026-1 | example.com/m | 1 | why |\n", []string{
			"G101 in b.go is argued 1 times and found 0 times: correct the list", "G304 in a/a.go is argued 3 times and found 2 times: correct the list",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			found := map[key][]string{}
			if err := addIssues(issues, "/src", found); err != nil {
				t.Fatal(err)
			}
			if err := readGovulncheck([]byte(vulns), found); err != nil {
				t.Fatal(err)
			}
			if own := takeLibrary(found); len(own) != 1 || !strings.Contains(own[0], "GO-2026-3 in stdlib v1.26.0") {
				t.Errorf("of Go's own library it has %q", own)
			}
			argued, err := readList(tt.list)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, compare(found, argued)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatHasNotRunIsNoSuccess(t *testing.T) {
	for name, err := range map[string]error{
		"govulncheck that said nothing": readGovulncheck(nil, nil),
		"govulncheck that was cut off":  readGovulncheck([]byte(`{"SBOM":{}}{"finding"`), nil),
		"an entry without a reason":     second(readList("| G304 | a.go | 1 |  |")),
		"an entry without a number":     second(readList("| G304 | a.go | some | why |")),
		"an entry that is there twice":  second(readList("| G304 | a.go | 1 | why |\n| G304 | a.go | 1 | why |")),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func second(_ map[key]int, err error) error { return err }

func TestIndex(t *testing.T) {
	entries, database := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"GO-2026-1": `{"id":"GO-2026-1","modified":"2026-01-02T00:00:00Z","aliases":["CVE-1"],"affected":[{"package":{"name":"example.com/m"}},{"package":{"name":"example.com/m"}}]}`,
		"GO-2026-2": `{"id":"GO-2026-2","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"name":"example.com/m"}},{"package":{"name":"stdlib"}}]}`,
	} {
		if err := os.WriteFile(filepath.Join(entries, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := index(entries, database); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"index/db.json":      `{"modified":"2026-01-02T00:00:00Z"}`,
		"index/vulns.json":   `[{"id":"GO-2026-1","modified":"2026-01-02T00:00:00Z","aliases":["CVE-1"]},{"id":"GO-2026-2","modified":"2026-01-01T00:00:00Z"}]`,
		"index/modules.json": `[{"path":"example.com/m","vulns":[{"id":"GO-2026-1","modified":"2026-01-02T00:00:00Z"},{"id":"GO-2026-2","modified":"2026-01-01T00:00:00Z"}]},{"path":"stdlib","vulns":[{"id":"GO-2026-2","modified":"2026-01-01T00:00:00Z"}]}]`,
	} {
		if got, err := os.ReadFile(filepath.Join(database, file)); err != nil || string(got) != want {
			t.Errorf("%s, %v:\n%s\nwant\n%s", file, err, got, want)
		}
	}
	if err := index(t.TempDir(), database); err == nil {
		t.Error("a folder without entries becomes a database that finds nothing")
	}
}
