package plane

import (
	"os"
	"strings"

	"github.com/nationtech/fleet/test/controlplane/internal/gitserver"
	"github.com/nationtech/fleet/test/controlplane/internal/ociregistry"
	"github.com/nationtech/fleet/test/controlplane/internal/supervise"
)

// The components that run inside the supervisor.

func (p *Plane) addGit(probes prober) error {
	l := p.layout
	log, err := appendTo(l.Log(Git))
	if err != nil {
		return err
	}
	command := strings.Join([]string{quote(p.config.Executable), "hook", "--socket", quote(l.Socket()), "--root", quote(l.path("git"))}, " ")
	p.git, err = gitserver.New(l.path("git"), l.path("git-hooks"), command, log)
	if err != nil {
		return err
	}
	server := supervise.Server{Addr: l.addr(portGit), Handler: p.git, Log: l.Log(Git)}
	p.add(Git, l.Ports[portGit], server.Start, probes.get("http://"+l.addr(portGit)+"/healthz"))
	return nil
}

func (p *Plane) addRegistry(probes prober) error {
	l := p.layout
	log, err := appendTo(l.Log(Registry))
	if err != nil {
		return err
	}
	handler, err := ociregistry.New(l.path("registry"), log)
	if err != nil {
		return err
	}
	server := supervise.Server{Addr: l.addr(portRegistry), Handler: handler, Log: l.Log(Registry)}
	p.add(Registry, l.Ports[portRegistry], server.Start, probes.get("http://"+l.addr(portRegistry)+"/v2/"))
	return nil
}

// appendTo opens a log for the life of the program.
func appendTo(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

// quote makes one word of s for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
