// Package status shows, on the device, how its agent and its deployments stand. It
// reads what the agent keeps on disk and asks nobody, so that it works when the
// network does not.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/nationtech/fleet/agent/config"
	"github.com/nationtech/fleet/agent/identity"
	"github.com/nationtech/fleet/agent/store"
	"github.com/nationtech/fleet/contracts"
)

// Status is how the device stands.
type Status struct {
	Device    contracts.DeviceID `json:"device"`
	PublicKey string             `json:"publicKey,omitempty"`
	Server    string             `json:"server"`
	// Running tells that an agent runs.
	Running bool `json:"running"`
	// Agent is what the agent last said of itself; nil when none has ever run.
	Agent       *store.Agent `json:"agent,omitempty"`
	Deployments []Deployment `json:"deployments"`
}

// Deployment is one deployment of the device.
type Deployment struct {
	Name contracts.DeploymentName `json:"name"`
	// Told is the revision that the device was told last; empty when it is to go.
	Told string `json:"told,omitempty"`
	// Commit that the revision came from.
	Commit string `json:"commit,omitempty"`
	// Report is what the device says of it.
	Report contracts.DeploymentState `json:"report"`
}

// Gather reads how the device stands.
func Gather(c config.Config) (Status, error) {
	s := Status{Device: c.Device, Server: c.NATS.URL, Deployments: []Deployment{}}
	key, err := identity.Public(c.NATS.SeedFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.PublicKey = key
	disk, err := store.OpenToRead(c.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if s.Running, err = disk.Running(); err != nil {
		return s, err
	}
	switch a, err := disk.Agent(); {
	case err == nil:
		s.Agent = &a
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	told, err := disk.Orders()
	if err != nil {
		return s, err
	}
	records, err := disk.Records()
	if err != nil {
		return s, err
	}
	all := map[contracts.DeploymentName]Deployment{}
	for name, o := range told {
		if o.Desired != nil {
			all[name] = Deployment{Name: name, Told: o.Desired.Revision, Commit: o.Desired.Commit}
		}
	}
	for name, r := range records {
		d := all[name]
		d.Name, d.Report = name, r.Report
		all[name] = d
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s.Deployments = append(s.Deployments, all[name])
	}
	return s, nil
}

// JSON writes a status for programs.
func JSON(w io.Writer, s Status) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(s)
}

// Render writes a status for people.
func Render(w io.Writer, s Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(key, value string) { fmt.Fprintf(t, "%s:\t%s\n", key, value) }
	line("Device", string(s.Device))
	if s.PublicKey == "" {
		line("Identity", "none yet; `fleet-agent identity` makes one")
	} else {
		line("Identity", s.PublicKey)
	}
	line("Agent", agentLine(s, now))
	line("Server", serverLine(s, now))
	if s.Agent != nil && s.Agent.Refused != nil {
		r := s.Agent.Refused
		line("Refused", fmt.Sprintf("%d orders, the last %s ago for %s: %s", r.Count, duration.HumanDuration(now.Sub(r.Time)), r.Deployment, r.Reason))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Deployments) == 0 {
		_, err := fmt.Fprintln(w, "\nThe device was told to run nothing.")
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "DEPLOYMENT\tPHASE\tREVISION\tSINCE\tRESTARTS\tMESSAGE")
	for _, d := range s.Deployments {
		phase, since := string(d.Report.Phase), "-"
		if phase == "" {
			phase = string(contracts.PhasePending)
		}
		if !d.Report.Since.IsZero() {
			since = duration.HumanDuration(now.Sub(d.Report.Since))
		}
		revision := d.Report.Revision
		if d.Told != "" && d.Told != revision {
			revision = d.Told
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", d.Name, phase, revision, since, d.Report.Restarts, message(d.Report))
	}
	return t.Flush()
}

func agentLine(s Status, now time.Time) string {
	switch {
	case s.Running && s.Agent != nil:
		return fmt.Sprintf("running, version %s, for %s", s.Agent.Version, duration.HumanDuration(now.Sub(s.Agent.Started)))
	case s.Running:
		return "starting"
	case s.Agent != nil:
		return "not running; containers go on without it"
	}
	return "has never run with this state directory"
}

func serverLine(s Status, now time.Time) string {
	if !s.Running || s.Agent == nil {
		return s.Server
	}
	state := "connected"
	if !s.Agent.Connected {
		state = "not connected"
	}
	text := fmt.Sprintf("%s, %s for %s", s.Server, state, duration.HumanDuration(now.Sub(s.Agent.Since)))
	if s.Agent.Error != "" && !s.Agent.Connected {
		text += ": " + s.Agent.Error
	}
	return text
}

func message(r contracts.DeploymentState) string {
	return strings.TrimPrefix(strings.TrimSuffix(r.Reason+": "+r.Message, ": "), ": ")
}
