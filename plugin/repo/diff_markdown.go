package repo

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/nationtech/fleet/gitops"
)

// maxComment is how many characters GitHub takes in a comment; others take more.
const maxComment = 65536

// reserved is kept for saying what was left out, and for closing what is open.
const reserved = 512

// commentMark lets a pipeline find its comment again, to change it.
const commentMark = "<!-- kubectl fleet repo diff -->\n"

// comment is Markdown that grows up to a limit.
type comment struct {
	text strings.Builder
	size int
}

// add takes text that fits, and reports whether it did.
func (c *comment) add(text string, limit int) bool {
	n := utf8.RuneCountInString(text)
	if c.size+n > limit {
		return false
	}
	c.text.WriteString(text)
	c.size += n
	return true
}

// markdown is the difference as a comment for a pull request. Everything that comes from
// the repository or the cluster is code in it: nothing there is taken for Markdown.
func markdown(diff Diff) []byte {
	c := &comment{}
	limit := maxComment - reserved
	c.add(commentMark+"**"+codeSpan(diffSummary(diff), false)+"**\n", limit)
	// The devices come first, and leave room for some of the objects.
	devicesTable(c, diff, limit*2/3)
	left := 0
	for _, overlay := range diff.Overlays {
		for _, object := range overlay.Objects {
			if left > 0 || !objectDetails(c, overlay, object, limit) {
				left++
			}
		}
	}
	if left > 0 {
		c.add(fmt.Sprintf("\n%s more: the comment would be too long. `kubectl fleet repo diff` shows everything.\n", count(left, "object")), maxComment)
	}
	return []byte(c.text.String())
}

// devicesTable lists Deployments, their waves and the devices, and what there is to know.
func devicesTable(c *comment, diff Diff, limit int) {
	rows, left := 0, 0
	for _, overlay := range diff.Overlays {
		for _, d := range overlay.Deployments {
			lines := devicesLines(d, false)
			if len(d.Devices()) == 0 {
				lines = []devicesLine{{devices: "no device changes"}}
			}
			for i, line := range lines {
				name, because := "", ""
				if i == 0 {
					name, because = codeSpan(overlay.Name+": "+nameOf(d), true), codeSpan(becauseWords(d), true)
				}
				row := fmt.Sprintf("| %s | %s | %s | %s | %s |\n", name, because, codeSpan(line.what, true), codeSpan(line.devices, true), line.condition)
				if rows == 0 {
					row = "\n| Deployment | Revision | Wave | Devices | |\n| --- | --- | --- | --- | --- |\n" + row
				}
				if left > 0 || !c.add(row, limit) {
					left++
					continue
				}
				rows++
			}
		}
	}
	if left > 0 {
		c.add(fmt.Sprintf("\n%s more of the table: the comment would be too long.\n", count(left, "row")), maxComment)
	}
	separator := "\n"
	for _, overlay := range diff.Overlays {
		for _, note := range overlay.Notes {
			c.add(separator+"- "+codeSpan(overlay.Name+": "+note, false)+"\n", limit)
			separator = ""
		}
		for _, failure := range overlay.Failures {
			c.add(separator+"- **not compared:** "+codeSpan(overlay.Name+": "+failure.String(), false)+"\n", limit)
			separator = ""
		}
	}
}

// objectDetails adds an object, whole or cut; it reports whether there was room for any of it.
func objectDetails(c *comment, overlay OverlayDiff, object gitops.Difference, limit int) bool {
	fence := fenceFor(object.Diff)
	head := fmt.Sprintf("\n<details><summary>%s <code>%s</code></summary>\n\n%sdiff\n", object.Change, escapeHTML(overlay.Name+": "+object.String()), fence)
	tail := fence + "\n\n</details>\n"
	if c.add(head+object.Diff+tail, limit) {
		return true
	}
	const least = 256
	room := limit - c.size - utf8.RuneCountInString(head+tail) - least
	if room < least {
		return false
	}
	var cut strings.Builder
	size, left := 0, 0
	for line := range strings.Lines(object.Diff) {
		if size += utf8.RuneCountInString(line); left > 0 || size > room {
			left++
			continue
		}
		cut.WriteString(line)
	}
	return c.add(head+cut.String()+fence+fmt.Sprintf("\n\n%s more: the comment would be too long.\n\n</details>\n", count(left, "line")), limit)
}

// fenceFor is a fence that nothing in the text can close.
// https://github.github.com/gfm/#fenced-code-blocks
func fenceFor(text string) string { return strings.Repeat("`", max(3, longestRun(text)+1)) }

// longestRun is how many backticks follow each other at most.
func longestRun(text string) int {
	longest, run := 0, 0
	for _, r := range text {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// codeSpan is text as a code span, which nothing in it can end.
func codeSpan(text string, inTable bool) string {
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if inTable {
		text = strings.ReplaceAll(text, "|", `\|`)
	}
	fence := strings.Repeat("`", longestRun(text)+1)
	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		text = " " + text + " "
	}
	return fence + text + fence
}

var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "&#96;", "@", "&#64;", "\n", " ").Replace
