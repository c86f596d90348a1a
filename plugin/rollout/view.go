package rollout

import (
	"fmt"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/nationtech/fleet/plugin/cli"
)

// view puts rollouts before the user.
type view struct {
	env *cli.Env
	// printer is nil for people.
	printer printers.ResourcePrinter
	// name is what -o asks for.
	name bool
	// screen has whole screens also where there is no terminal.
	screen bool
	detail Detail
}

// human reports whether the output is for people.
func (v *view) human() bool { return v.printer == nil && !v.name }

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
	if style := v.env.Style(out); style.Terminal || v.screen {
		if v.detail.Wide {
			style.Width = 0
		}
		text = Render(style, r, v.env.Now(), v.detail)
	}
	_, err := fmt.Fprint(out, text)
	return err
}
