package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func compareCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compare BEFORE.json AFTER.json", Short: "Say how two runs differ, and which differences are more than noise", Args: cobra.ExactArgs(2),
		Long: `Prints the figures of two runs side by side. Where a figure was measured several times, a
difference counts that is larger than both spreads together.`,
		RunE: func(c *cobra.Command, args []string) error {
			var runs [2]results
			for i, path := range args {
				var err error
				if runs[i], err = readResults(path); err != nil {
					return err
				}
			}
			if runs[0].Devices != runs[1].Devices {
				return fmt.Errorf("%s is of %d devices and %s of %d", args[0], runs[0].Devices, args[1], runs[1].Devices)
			}
			return compare(c.OutOrStdout(), runs[0], runs[1])
		},
	}
}

func readResults(path string) (r results, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	if len(r.Figures) == 0 {
		return r, fmt.Errorf("%s: there are no figures in it", path)
	}
	return r, nil
}

func compare(out io.Writer, before, after results) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tBEFORE\tAFTER\tDIFFERENCE\t")
	repeated, differ := 0, 0
	for _, a := range before.Figures {
		for _, b := range after.Figures {
			if a.Name != b.Name {
				continue
			}
			difference := "-"
			if a.Value != 0 {
				difference = fmt.Sprintf("%+.0f %%", 100*(b.Value-a.Value)/a.Value)
			}
			if noise := a.Spread + b.Spread; noise > 0 {
				repeated++
				if math.Abs(b.Value-a.Value) > noise {
					differ++
					difference += ", more than noise"
				} else {
					difference += ", noise"
				}
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", a.Name, a.measured(), b.measured(), difference)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %d figures that were measured several times differ by more than noise.\n", differ, repeated)
	return err
}
