package repo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleet/gitops"
	"github.com/nationtech/fleet/plugin/cli"
)

// committing is what the commands share that end in a commit.
type committing struct {
	env                          *cli.Env
	dir, branch, message, remote string
	yes, dryRun, push, sign      bool
	// quiet leaves stdout to -o.
	quiet  bool
	output cli.Output
}

func (o *committing) addFlags(cmd *cobra.Command, branch string) {
	f := cmd.Flags()
	f.StringVar(&o.dir, "repo", ".", "Folder in the repository.")
	f.StringVar(&o.branch, "branch", "", "Branch to commit to; it is made when there is none. Default: "+branch+".")
	f.StringVarP(&o.message, "message", "m", "", "Message of the commit, in place of one that says what changes.")
	f.BoolVarP(&o.yes, "yes", "y", false, "Commit without asking.")
	f.BoolVar(&o.dryRun, "dry-run", false, "Only show what would be committed.")
	f.BoolVar(&o.push, "push", false, "Push the branch afterwards. Never by force.")
	f.StringVar(&o.remote, "remote", "", "Remote to push to. Default: that of the upstream, or origin.")
	f.BoolVar(&o.sign, "sign", false, "Sign the commit, also where commit.gpgSign is not set.")
	o.output.AddFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("branch", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names, _ := gitops.Branches(o.dir)
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("remote", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		h, err := gitops.OpenHistory(o.dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		remotes, _ := h.Remotes() // a Tab is no place for errors
		var names []string
		for _, r := range remotes {
			names = append(names, r.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// open finds the branch, and where it is pushed to: before anything is done.
func (o *committing) open(ctx context.Context, usual string) (*gitops.Branch, gitops.Remote, error) {
	if o.dryRun && o.yes {
		return nil, gitops.Remote{}, errors.New("--dry-run and --yes contradict each other")
	}
	if o.remote != "" && !o.push {
		return nil, gitops.Remote{}, errors.New("--remote says where to push: give --push with it")
	}
	name := o.branch
	if name == "" {
		name = usual
	}
	branch, err := gitops.OpenBranch(ctx, o.dir, name, o.branch == "")
	if err != nil || !o.push {
		return branch, gitops.Remote{}, err
	}
	remote, err := branch.Remote(o.remote)
	return branch, remote, err
}

// made is what came of it, as -o has it.
type made struct {
	Branch string `json:"branch"`
	// Base is the commit that is built upon, Commit the new one; empty when there is
	// none.
	Base    string   `json:"base"`
	Commit  string   `json:"commit,omitempty"`
	Message string   `json:"message,omitempty"`
	Files   []string `json:"files"`
	Diff    string   `json:"diff,omitempty"`
	// Pushed names the remote that has the branch.
	Pushed string `json:"pushed,omitempty"`
}

// finish shows the change and, when that is wanted, commits and pushes it.
func (o *committing) finish(ctx context.Context, branch *gitops.Branch, remote gitops.Remote, files map[string][]byte, message string) (made, error) {
	out := made{Branch: branch.Name, Base: branch.Base(), Message: message, Files: []string{}}
	if o.message != "" {
		out.Message = o.message
	}
	draft, err := branch.Draft(files)
	if err != nil {
		return out, err
	}
	out.Files = draft.Files()
	var text bytes.Buffer
	if err := draft.Diff(&text, false); err != nil {
		return out, err
	}
	out.Diff = text.String()
	if !o.quiet {
		if err := draft.Diff(o.env.Streams.Out, o.env.Style(o.env.Streams.Out).Color); err != nil {
			return out, err
		}
	}
	if o.dryRun {
		o.say("dry run: nothing is committed; it would be on branch %s, as %q", branch.Name, firstLine(out.Message))
		return out, nil
	}
	if err := o.confirm(branch); err != nil {
		return out, err
	}
	out.Commit, err = draft.Commit(ctx, gitops.CommitOptions{Message: out.Message, Sign: o.sign, Getenv: o.env.Getenv, Now: o.env.Now()})
	if err != nil {
		return out, bad(err)
	}
	o.say("committed %s to branch %s: %s", out.Commit[:7], branch.Name, firstLine(out.Message))
	if !o.push {
		return out, nil
	}
	if err := branch.Push(ctx, remote, o.env.Getenv); err != nil {
		return out, bad(fmt.Errorf("commit %s is on the local branch %s, but could not be pushed to %s (%s): %w\nOnce that is put right: git push %s %s",
			out.Commit[:7], branch.Name, remote.Name, remote, err, remote.Name, branch.Name))
	}
	out.Pushed = remote.Name
	o.say("pushed branch %s to %s (%s)", branch.Name, remote.Name, remote)
	return out, nil
}

// confirm asks the person at the terminal.
func (o *committing) confirm(branch *gitops.Branch) error {
	if o.yes {
		return nil
	}
	if o.quiet {
		return errors.New("nothing is committed: -o does not ask, give --yes to commit or --dry-run to only look")
	}
	in, ok := o.env.Streams.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return errors.New("nothing is committed: without a terminal to ask at, give --yes to commit or --dry-run to only look")
	}
	what := "Commit this to the new branch "
	switch {
	case branch.CheckedOut():
		what = "Commit this, and change these files in the working tree, on branch "
	case branch.Exists():
		what = "Commit this to branch "
	}
	if o.push {
		what = strings.Replace(what, "Commit", "Commit and push", 1)
	}
	if _, err := fmt.Fprintf(o.env.Streams.ErrOut, "%s%s? [y/N] ", what, branch.Name); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return bad(errors.New("nothing is committed"))
}

func (o *committing) say(format string, args ...any) {
	fmt.Fprintf(o.env.Streams.ErrOut, format+"\n", args...)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// bad is an error of what was asked for, not of how.
func bad(err error) error { return &cli.ExitError{Code: cli.CodeBad, Err: err} }
