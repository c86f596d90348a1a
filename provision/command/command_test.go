package command

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestWhatTheShellIsGiven(t *testing.T) {
	for name, tt := range map[string]struct {
		c    Command
		uid  int
		want string
	}{
		"plain words stay plain":                {New("id", "-nG", "ada"), 1000, "id -nG ada"},
		"what a shell would take is quoted":     {New("echo", "a b", "$(id)", "it's", ""), 1000, `echo 'a b' '$(id)' 'it'\''s' ''`},
		"root needs no sudo":                    {AsRoot("apt-get", "update"), 0, "apt-get update"},
		"another user does":                     {AsRoot("apt-get", "update"), 1000, "sudo -n -- apt-get update"},
		"sudo is not given the variables by sh": {Command{Args: []string{"apt-get"}, Env: []string{"A=b c"}, Root: true}, 1000, "sudo -n -- env 'A=b c' apt-get"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.c.Shell(tt.uid); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// FuzzQuote holds the quoting to a real shell.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a b", "it's", `\"$x`, "a\nb", "-n", "*", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			t.Skip("no command line has a NUL")
		}
		// Behind a letter, so that printf does not take it for an option.
		out, err := exec.Command("sh", "-c", "printf '%s' x"+Quote(text)).Output()
		if err != nil || string(out) != "x"+text {
			t.Errorf("the shell took %q for %q: %v", out, text, err)
		}
	})
}

func TestLocal(t *testing.T) {
	result, err := Local{}.Run(t.Context(), Command{Args: []string{"sh", "-c", `echo "$WORD $LC_ALL"; echo no >&2`}, Env: []string{"WORD=hello"}})
	if err != nil || result.Stdout != "hello C\n" || result.Stderr != "no\n" {
		t.Errorf("%+v, %v", result, err)
	}
	result, err = Local{}.Run(t.Context(), New("sh", "-c", "echo first >&2; echo the reason >&2; exit 4"))
	if result.Code != 4 || err == nil || !strings.Contains(err.Error(), "exit code 4") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("%+v, %v", result, err)
	}
	if _, err = (Local{}).Run(t.Context(), New("no-such-command-at-all")); !NotFound(err) {
		t.Errorf("a command that is not there: %v", err)
	}
	for code, want := range map[string]bool{"0": true, "3": false} {
		if got, err := Succeeds(t.Context(), Local{}, New("sh", "-c", "exit "+code)); err != nil || got != want {
			t.Errorf("exit code %s: %v, %v", code, got, err)
		}
	}
	if _, err := Succeeds(t.Context(), Local{}, New("no-such-command-at-all")); err == nil {
		t.Error("a command that is not there has answered")
	}
}

func TestACommandEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Local{}.Run(ctx, New("sleep", "60"))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestWhatRootIsMissingIsSaid(t *testing.T) {
	for name, tt := range map[string]struct{ result, want string }{
		"sudo asks":  {"sudo: a password is required\n", "asks for a password"},
		"no sudo":    {"sh: 1: sudo: not found\n", "there is no sudo"},
		"other ways": {"E: Unable to locate package x\n", "Unable to locate package x"},
	} {
		t.Run(name, func(t *testing.T) {
			err := &ExitError{Host: "h", Command: AsRoot("apt-get"), Result: Result{Stderr: tt.result, Code: 127}}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "on h") {
				t.Errorf("%v", err)
			}
		})
	}
}
