// Command plots draws how what a fleet costs grows with it, from what `load --json` has
// measured at several sizes. Each line begins with a dashed one beside it, which is what it
// would be if cost grew as the fleet does: what rises above it grows faster.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// run is what one run of load has measured.
type run struct {
	Devices int `json:"devices"`
	Figures []struct {
		Name  string  `json:"name"`
		Value float64 `json:"value"`
	} `json:"figures"`
}

// picture is one file, with a line for each figure.
type picture struct {
	file, title, unit string
	// figures by what their line is called.
	figures [][2]string
}

var pictures = []picture{
	{"rollouts.svg", "Rollouts", "s", [][2]string{
		{"first device told", "one change: from the API server's answer until the first device is told"},
		{"all have received it", "one change: all devices have received it"},
		{"its status says that all run it", "one change: its status says that all devices run it"},
	}},
	{"heartbeats.svg", "Heartbeats, one each 30 s", "% of a core", [][2]string{
		{"the operator", "heartbeats: the operator's CPU"},
		{"the NATS server", "heartbeats: the NATS server's CPU"},
	}},
	{"memory.svg", "The operator's memory", "MiB", [][2]string{{"resident", "heartbeats: the operator's memory"}}},
	{"start.svg", "Starting and asking", "s", [][2]string{
		{"the operator has a complete view", "the operator starts: a complete view"},
		{"kubectl fleet status", "kubectl fleet status"},
	}},
}

func main() {
	if err := draws(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

// draws reads all files but the first argument, which is the folder for the pictures.
func draws(args []string) error {
	if len(args) < 2 {
		return errors.New("name the folder for the pictures and, after it, at least one file of results")
	}
	var runs []run
	for _, path := range args[1:] {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var r run
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if r.Devices < 1 {
			return fmt.Errorf("%s: it is not of a run of load: devices is %d", path, r.Devices)
		}
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b run) int { return a.Devices - b.Devices })
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	for _, p := range pictures {
		if err := p.draw(runs, filepath.Join(args[0], p.file)); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	return nil
}

func (p picture) draw(runs []run, path string) error {
	out := plot.New()
	out.Title.Text, out.X.Label.Text, out.Y.Label.Text = p.title, "devices", p.unit
	out.X.Scale, out.Y.Scale = plot.LogScale{}, plot.LogScale{}
	out.X.Tick.Marker, out.Y.Tick.Marker = sizes(runs), plot.LogTicks{Prec: -1}
	out.Legend.Top, out.Legend.Left = true, true
	out.Add(plotter.NewGrid())
	for n, f := range p.figures {
		points := measured(runs, f[1])
		if len(points) == 0 {
			return fmt.Errorf("no run has the figure %q", f[1])
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, marks.Color, marks.Shape = plotutil.Color(n), plotutil.Color(n), draw.CircleGlyph{}
		first, last := points[0], points[len(points)-1]
		ideal, err := plotter.NewLine(plotter.XYs{first, {X: last.X, Y: first.Y * last.X / first.X}})
		if err != nil {
			return err
		}
		ideal.Color, ideal.Dashes = plotutil.Color(n), []vg.Length{vg.Points(2), vg.Points(3)}
		out.Add(ideal, line, marks)
		out.Legend.Add(f[0], line, marks)
	}
	// Room for the last label.
	out.X.Max *= 1.3
	return out.Save(7*vg.Inch, 4.5*vg.Inch, path)
}

func sizes(runs []run) (ticks plot.ConstantTicks) {
	for _, r := range runs {
		ticks = append(ticks, plot.Tick{Value: float64(r.Devices), Label: strconv.Itoa(r.Devices)})
	}
	return ticks
}

// measured are the points of a figure. On a logarithmic axis there is no zero.
func measured(runs []run, name string) (points plotter.XYs) {
	for _, r := range runs {
		for _, f := range r.Figures {
			if f.Name == name && f.Value > 0 {
				points = append(points, plotter.XY{X: float64(r.Devices), Y: f.Value})
			}
		}
	}
	return points
}
