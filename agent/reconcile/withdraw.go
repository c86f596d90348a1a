package reconcile

// Withdraw is the steps that remove the containers that were made from a score which
// the device refuses now, where refused says so of their name in it. What was made
// from another is left alone.
func Withdraw(d *Desired, o Observed, refused func(unit string) bool) []Step {
	var steps []Step
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			if wanted(d, c) && refused(c.Unit) {
				steps = append(steps, Step{Kind: Remove, Unit: c.Unit, Container: c.ID})
			}
		}
	}
	return steps
}
