package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/nationtech/fleet/test/env"
)

// readyLine is what the background demo prints when it is complete.
const readyLine = "The fleet stays up. To use it:"

// background runs this command again as a process of its own, which outlives this
// one, and shows what it prints until it is complete.
func (d *demo) background(ctx context.Context, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if pid := d.owner(); pid != 0 {
		return fmt.Errorf("a demo runs already in %s (process %d); `make demo-down` ends it", d.dir, pid)
	}
	log, err := os.Create(d.log())
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"up", "--keep", "--attached", "--dir", d.dir, "--bin", d.bin, "--manifests", d.manifests}
	if d.machine {
		args = append(args, "--machine")
	}
	child := exec.Command(self, args...)
	child.Stdout, child.Stderr = log, log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var end error // to be read after ended
	go func() {
		end = child.Wait()
		close(ended)
	}()
	shown := 0
	show := func() (string, error) {
		// Not by its name: a child that is told to stop removes the file in the end.
		all, err := io.ReadAll(io.NewSectionReader(log, 0, math.MaxInt64))
		if err != nil {
			return "", err
		}
		_, err = out.Write(all[shown:])
		shown = len(all)
		return string(all), err
	}
	err = env.Until(ctx, d.patience(), "demo up", func(context.Context) error {
		all, err := show()
		if err != nil {
			return err
		}
		select {
		case <-ended:
			if end == nil {
				end = errors.New("it was told to stop")
			}
			return env.Permanent(fmt.Errorf("it ended: %w", end))
		default:
		}
		if _, after, ready := strings.Cut(all, readyLine); !ready || !strings.Contains(after, "make demo-down") {
			return fmt.Errorf("not complete yet")
		}
		return nil
	})
	if err == nil {
		// The log stays as long as the child, which goes on writing to it.
		return nil
	}
	_ = syscall.Kill(child.Process.Pid, syscall.SIGTERM) // it may have ended
	<-ended
	_, _ = show() // the last words
	return errors.Join(err, removeIfThere(d.log()))
}
