package approval

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/cli-runtime/pkg/printers"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/flux"
	"github.com/nationtech/fleet/plugin/screen"
)

// How much is shown of many devices.
const (
	// each is up to how many devices are shown one by one.
	each = 20
	// maxFailures are shown of those that failed, maxNames named in a sentence.
	maxFailures, maxNames = 10, 3
)

// Device is what a command has done with one device.
type Device struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	PublicKey string `json:"publicKey,omitempty"`
	// Outcome is Changed, Unchanged, Skipped or Failed, and Message why it is not the
	// first.
	Outcome Outcome `json:"outcome"`
	Message string  `json:"message,omitempty"`
}

// Report is what -o json prints.
type Report struct {
	// DryRun is none, client or server.
	DryRun    string   `json:"dryRun"`
	Changed   int      `json:"changed"`
	Unchanged int      `json:"unchanged"`
	Skipped   int      `json:"skipped"`
	Failed    int      `json:"failed"`
	Devices   []Device `json:"devices"`
}

func (o *options) report(tasks []*task) Report {
	r := Report{DryRun: "none", Devices: []Device{}}
	switch o.dryRun {
	case cmdutil.DryRunClient:
		r.DryRun = "client"
	case cmdutil.DryRunServer:
		r.DryRun = "server"
	}
	for _, t := range tasks {
		d := Device{Namespace: t.key.Namespace, Name: t.key.Name, Outcome: t.outcome, Message: t.why}
		if t.before != nil {
			d.PublicKey = t.before.Spec.PublicKey
		}
		*map[Outcome]*int{Changed: &r.Changed, Unchanged: &r.Unchanged, Skipped: &r.Skipped, Failed: &r.Failed}[t.outcome]++
		r.Devices = append(r.Devices, d)
	}
	return r
}

func (o *options) show(printer printers.ResourcePrinter, scope cli.Scope, tasks []*task) error {
	out, r := o.env.Streams.Out, o.report(tasks)
	switch {
	case printer != nil:
		return cli.PrintStruct(printer, o.kind, r, out)
	case o.output.Is(cli.Name):
		var names []string
		for _, d := range r.Devices {
			if d.Outcome == Changed {
				names = append(names, "device."+v1alpha1.GroupVersion.Group+"/"+d.Name)
			}
		}
		return cli.PrintNames(out, names...)
	case len(tasks) == 0:
		such := "No devices"
		if o.allPending {
			such = "No device waits for approval"
		}
		_, err := fmt.Fprintf(o.env.Streams.ErrOut, "%s in %s.\n", such, scope)
		return err
	}
	style, whole := o.env.Style(out), o.output.Is(cli.Wide) || len(tasks) <= each
	if o.output.Is(cli.Wide) {
		style.Width = 0
	}
	var rows [][]screen.Cell
	for _, d := range r.Devices {
		if d.Outcome == Failed || !whole {
			continue
		}
		rows = append(rows, o.row(style, scope, d))
	}
	lines := style.Grid("", rows)
	if !whole || len(tasks) > 1 && r.Changed != len(tasks) {
		lines = append(lines, o.summary(style, r))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	o.failures(r)
	return nil
}

func (o *options) row(style screen.Style, scope cli.Scope, d Device) []screen.Cell {
	tone, did := screen.Good, o.did+o.dryRunWords()
	if d.Outcome != Changed {
		tone, did = screen.Dim, d.Message
	}
	return []screen.Cell{
		{Text: style.Mark(tone) + " " + scope.Key(d.Namespace, d.Name), Raw: true}, {Text: did}, {Text: "key " + cmp.Or(d.PublicKey, screen.None)},
	}
}

func (o *options) dryRunWords() string {
	switch o.dryRun {
	case cmdutil.DryRunClient:
		return " (dry run)"
	case cmdutil.DryRunServer:
		return " (server dry run)"
	}
	return ""
}

// summary is all of it in a line; the reasons are many, and their devices are not.
func (o *options) summary(style screen.Style, r Report) string {
	parts := []string{style.Mark(screen.Good) + " " + screen.Plural(r.Changed, "device") + " " + o.did + o.dryRunWords()}
	var order []string
	counts := map[string]int{}
	for _, d := range r.Devices {
		if d.Outcome != Unchanged && d.Outcome != Skipped {
			continue
		}
		if counts[d.Message] == 0 {
			order = append(order, d.Message)
		}
		counts[d.Message]++
	}
	for _, why := range order {
		parts = append(parts, style.Paint(screen.Dim, screen.Count(counts[why])+" left alone, each "+why))
	}
	if r.Failed > 0 {
		parts = append(parts, style.Mark(screen.Bad)+" "+style.Paint(screen.Bad, screen.Count(r.Failed)+" failed"))
	}
	return strings.Join(parts, "   ")
}

// failures shows the first of those that failed, where there are several: of a single one
// the error tells.
func (o *options) failures(r Report) {
	if len(r.Devices) < 2 {
		return
	}
	says, shown := o.env.Streams.ErrOut, 0
	style := o.env.Style(says)
	for _, d := range r.Devices {
		if d.Outcome != Failed {
			continue
		}
		if shown++; shown > maxFailures {
			break
		}
		style.Note(says, screen.Bad, d.Message)
	}
	if more := r.Failed - maxFailures; more > 0 {
		fmt.Fprintf(says, "  %s and %s more\n", style.Ellipsis(), screen.Count(more))
	}
}

// tell says what somebody should know of what was changed, on stderr: what is on stdout
// may be for a program.
func (o *options) tell(ctx context.Context, cluster *cli.Cluster, tasks []*task) {
	says := o.env.Streams.ErrOut
	style := o.env.Style(says)
	notes, byFlux := groups{}, groups{}
	appliers := map[string]*flux.Applier{}
	namespace := ""
	for _, t := range tasks {
		if t.outcome != Changed {
			continue
		}
		namespace = t.key.Namespace
		if o.note != nil {
			notes.add(o.note(t.before), t.before)
		}
		if a := flux.Of(t.before); a != nil {
			// Without the names of devices the words are those of all in the same case.
			_, words := a.Opinion(t.before, o.inGit)
			appliers[words] = a
			byFlux.add(words, t.before)
		}
	}
	for _, g := range notes {
		style.Note(says, screen.Warn, g.what+": "+g.names())
	}
	if o.next != nil && namespace != "" {
		for _, line := range o.next(namespace) {
			style.Note(says, screen.Bold, line)
		}
	}
	for _, g := range byFlux {
		a, change := appliers[g.what], o.inGit
		a.Look(ctx, cluster)
		change.Field += " of " + g.names()
		a.Tell(says, style, g.devices[0], change)
	}
}

// groups are devices of which the same is to be said, in the order of the first of each.
type groups []*group

type group struct {
	what    string
	devices []*v1alpha1.Device
}

func (all *groups) add(what string, d *v1alpha1.Device) {
	if what == "" {
		return
	}
	for _, g := range *all {
		if g.what == what {
			g.devices = append(g.devices, d)
			return
		}
	}
	*all = append(*all, &group{what, []*v1alpha1.Device{d}})
}

// names names the first of the devices.
func (g *group) names() string {
	var names []string
	for _, d := range g.devices[:min(maxNames, len(g.devices))] {
		names = append(names, d.Name)
	}
	text := strings.Join(names, ", ")
	if more := len(g.devices) - len(names); more > 0 {
		text += fmt.Sprintf(" and %s more", screen.Count(more))
	}
	return text
}

// How often to tell how far it is, to a person who watches and to a log.
const tellPerson, tellLog = time.Second, 10 * time.Second

// progress tells how far a long command is, until it is stopped.
func (o *options) progress(done *atomic.Int64, total int) (stop func()) {
	says := o.env.Streams.ErrOut
	style := o.env.Style(says)
	every, begin, end := tellLog, "", "\n"
	if style.Terminal {
		every, begin, end = tellPerson, "\r\x1b[K", ""
	}
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		told := false
		for {
			select {
			case <-tick.C:
				told = true
				fmt.Fprintf(says, "%s%s %s devices%s", begin, style.Mark(screen.Busy), screen.Ratio(done.Load(), int64(total)), end)
			case <-over:
				if told {
					_, _ = io.WriteString(says, begin)
				}
				return
			}
		}
	}()
	return func() { close(over); <-stopped }
}
