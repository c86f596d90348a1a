package repo

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/preview"
)

func difference(name, text string) gitops.Difference {
	return gitops.Difference{Change: gitops.Changed, Version: "v1", Kind: "ConfigMap", Namespace: "shops", Name: name, Diff: text}
}

func comparison(objects ...gitops.Difference) Diff {
	d := Diff{From: "main", To: "HEAD"}
	overlay := newOverlayDiff(gitops.Overlay{Name: "field", Path: "overlays/field"})
	overlay.Objects = objects
	d.add(overlay)
	return d
}

// TestNothingBreaksOutOfMarkdown has content that would end its fence, its span or its cell.
func TestNothingBreaksOutOfMarkdown(t *testing.T) {
	hostile := "+```\n+````` @everyone <script>\n ```\n</details>\n"
	d := comparison(difference("m", hostile))
	d.Overlays[0].Name = "a|b`c``@all<img>"
	d.Overlays[0].Deployments = []preview.Deployment{{Name: "web", Because: []string{"new"}, New: []string{"a"}, Offline: []string{"a"}}}
	d.Overlays[0].Notes = []string{"``` | <b>\n# heading"}
	text := string(markdown(d))
	const fence = "``````"
	if !strings.Contains(text, "\n"+fence+"diff\n"+hostile+fence+"\n") {
		t.Errorf("the fence is not longer than what is in it:\n%s", text)
	}
	outside := strings.Replace(text, hostile, "", 1)
	for _, raw := range []string{"<img>", "\n# heading"} {
		for _, line := range strings.Split(outside, "\n") {
			// In a span of code it is text.
			if strings.Contains(line, raw) && !strings.Contains(line, "```") {
				t.Errorf("%q is Markdown in %q", raw, line)
			}
		}
	}
	if !strings.Contains(outside, "a&#124;b") && !strings.Contains(outside, "a|b&#96;c&#96;&#96;&#64;all&lt;img&gt;") {
		t.Errorf("the summary of an object is not escaped:\n%s", outside)
	}
	if !strings.Contains(outside, "| ```a\\|b`c``@all<img>: web``` |") {
		t.Errorf("the cell is not one span:\n%s", outside)
	}
}

// TestCommentIsBounded has it fit, and say that it is not whole.
func TestCommentIsBounded(t *testing.T) {
	long := strings.Repeat("+ ü"+strings.Repeat("x", 97)+"\n", 900)
	for name, c := range map[string]struct {
		diff Diff
		want []string
	}{
		"one long object": {comparison(difference("long", long)), []string{"</details>", " lines more: the comment would be too long"}},
		"many objects": {comparison(func() (out []gitops.Difference) {
			for i := range 200 {
				out = append(out, difference(fmt.Sprint("m", i), long[:4000]))
			}
			return out
		}()...), []string{"objects more: the comment would be too long"}},
		"many Deployments": {func() Diff {
			d := comparison(difference("m", "+ a\n"))
			for i := range 2000 {
				d.Overlays[0].Deployments = append(d.Overlays[0].Deployments, preview.Deployment{Name: fmt.Sprint("web-", i), Offline: []string{"a"}})
			}
			return d
		}(), []string{"rows more of the table", "ConfigMap shops/m"}},
		"a short one": {comparison(difference("m", "+ a\n")), []string{"+ a\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(markdown(c.diff))
			if n := utf8.RuneCountInString(text); n > maxComment || !utf8.ValidString(text) {
				t.Errorf("the comment has %d characters", n)
			}
			if strings.Count(text, "<details>") != strings.Count(text, "</details>") || strings.Count(text, "```")%2 != 0 {
				t.Error("something is not closed")
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in it; it ends with\n%s", want, text[max(0, len(text)-600):])
				}
			}
			if name == "a short one" && strings.Contains(text, "too long") {
				t.Errorf("it says that it was cut:\n%s", text)
			}
		})
	}
}
