package gitops_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a program that the test needs, and says so when there is none.
func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("there is no %s on this machine", program)
	}
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// sshKey makes a key and has git trust it.
func sshKey(t *testing.T, dir string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	public := strings.TrimSpace(read(t, filepath.Dir(key), "key.pub"))
	allowed := filepath.Join(t.TempDir(), "allowed")
	write(t, filepath.Dir(allowed), "allowed", "ada@example.com "+public+"\n")
	runGit(t, dir, "config", "gpg.format", "ssh")
	runGit(t, dir, "config", "gpg.ssh.allowedSignersFile", allowed)
	return key
}

func TestGitVerifiesWhatIsSignedWithSSH(t *testing.T) {
	dir := fleetRepository(t)
	key := sshKey(t, dir)
	folder := t.TempDir()
	agent := exec.Command("ssh-agent", "-D", "-a", filepath.Join(folder, "agent"))
	pipe, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	// What it prints comes once it listens.
	if _, err := pipe.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(folder, "agent"))
	run(t, "ssh-add", "-q", key)
	public := strings.TrimSpace(read(t, filepath.Dir(key), "key.pub"))
	for name, value := range map[string]string{"file": key, "public-half": key + ".pub", "literal": "key::" + public} {
		runGit(t, dir, "config", "user.signingKey", value)
		o := commitOptions()
		o.Sign = name == "file"
		if name == "literal" {
			runGit(t, dir, "config", "commit.gpgSign", "true")
		}
		if name == "public-half" {
			o.Sign = true
		}
		if _, err := draft(t, openBranch(t, dir, name), map[string]string{"new": "x\n"}).Commit(t.Context(), o); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		runGit(t, dir, "verify-commit", name)
		runGit(t, dir, "fsck", "--strict")
	}
}

func TestGitVerifiesWhatIsSignedWithGnuPG(t *testing.T) {
	dir := fleetRepository(t)
	// The agent's socket has a short path only.
	home, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	run(t, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Ada <ada@example.com>", "ed25519", "sign")
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	runGit(t, dir, "config", "commit.gpgSign", "yes")
	if _, err := draft(t, openBranch(t, dir, "new"), map[string]string{"new": "x\n"}).Commit(t.Context(), commitOptions()); err != nil {
		t.Fatal(err)
	}
	runGit(t, dir, "verify-commit", "new")
}

func TestNothingIsCommittedWhenSigningFails(t *testing.T) {
	for name, c := range map[string]struct{ configure, want string }{
		"no key":                       {"gpg.format=ssh", "user.signingKey"},
		"a key that is missing":        {"gpg.format=ssh user.signingKey=/does/not/exist", "/does/not/exist"},
		"a format that is none":        {"gpg.format=x509", "x509"},
		"a program that is none":       {"gpg.program=/does/not/exist", "/does/not/exist"},
		"a program that fails":         {"gpg.program=false", "false"},
		"a program that says nothing":  {"gpg.program=true", "made no signature"},
		"a program that says anything": {"gpg.program=echo", "made no signature"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fleetRepository(t)
			for _, pair := range strings.Fields(c.configure) {
				key, value, _ := strings.Cut(pair, "=")
				runGit(t, dir, "config", key, value)
			}
			before := state(t, dir)
			for _, branch := range []string{"main", "new"} {
				o := commitOptions()
				o.Sign = true
				if _, err := draft(t, openBranch(t, dir, branch), map[string]string{"new": "x\n"}).Commit(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("branch %s: error %v, want one with %q", branch, err, c.want)
				}
			}
			if after := state(t, dir); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
}
