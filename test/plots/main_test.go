package main

import (
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDrawsEachPictureFromResults(t *testing.T) {
	dir := t.TempDir()
	var figures []string
	for _, p := range pictures {
		for _, f := range p.figures {
			figures = append(figures, `{"name": "`+f[1]+`", "value": VALUE}`)
		}
	}
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := `{"devices": DEVICES, "figures": [` + strings.Join(figures, ",") + `]}`
	small := write("small.json", strings.NewReplacer("DEVICES", "1000", "VALUE", "1").Replace(all))
	large := write("large.json", strings.NewReplacer("DEVICES", "10000", "VALUE", "5").Replace(all))
	if err := draws([]string{filepath.Join(dir, "out"), large, small}); err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		svg, err := os.ReadFile(filepath.Join(dir, "out", p.file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{p.title, ">1000<", ">10000<", p.figures[0][0]} {
			if !strings.Contains(html.UnescapeString(string(svg)), want) {
				t.Errorf("%s does not have %q", p.file, want)
			}
		}
	}
	for name, args := range map[string][]string{
		"no results":          {dir},
		"a file that is none": {dir, filepath.Join(dir, "none.json")},
		"nonsense":            {dir, write("nonsense.json", "{")},
		"of something else":   {dir, write("else.json", "{}")},
		"without the figures": {dir, write("empty.json", `{"devices": 5, "figures": []}`)},
	} {
		if draws(args) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
