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
}

// once prints a rollout as it is now.
func (v *view) once(r Rollout) error {
	out := v.env.Streams.Out
	if v.printer != nil {
		return cli.PrintStruct(v.printer, "RolloutStatus", r, out)
	}
	text := Line(r) + "\n"
	if style := v.env.Style(out); style.Terminal {
		text = Render(style, r, v.env.Now())
	}
	_, err := fmt.Fprint(out, text)
	return err
}
