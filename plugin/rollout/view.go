package rollout

import (
	"fmt"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/nationtech/fleet/plugin/cli"
	"github.com/nationtech/fleet/plugin/screen"
)

// view puts rollouts before the user.
type view struct {
	env *cli.Env
	// printer is nil for people.
	printer printers.ResourcePrinter
	// wide and name are what -o asks for.
	wide, name bool
}

// human reports whether the output is for people.
func (v *view) human() bool { return v.printer == nil && !v.name }

func (v *view) render(s screen.Style, r Rollout) string {
	if v.wide {
		return RenderWide(s, r, v.env.Now())
	}
	return Render(s, r, v.env.Now())
}

// once prints a rollout as it is now.
func (v *view) once(r Rollout) error {
	out := v.env.Streams.Out
	if v.printer != nil {
		return cli.PrintStruct(v.printer, "RolloutStatus", r, out)
	}
	if v.name {
		return cli.PrintNames(out, ObjectName(r.Name))
	}
	text := Line(r) + "\n"
	if style := v.env.Style(out); style.Terminal || v.wide {
		text = v.render(style, r)
	}
	_, err := fmt.Fprint(out, text)
	return err
}
