package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/nationtech/fleet/test/env"
)

// kubectl runs plain kubectl and returns what it prints.
func (s *suite) kubectl(args ...string) string {
	s.Helper()
	out, err := s.KubectlAs(s.Context(), s.ControlPlane.Kubeconfig, args...)
	s.must("kubectl "+strings.Join(args, " "), err)
	return out
}

// refused runs kubectl and checks that it fails and says why.
func (s *suite) refused(kubeconfig, says string, args ...string) {
	s.Helper()
	out, err := s.KubectlAs(s.Context(), kubeconfig, args...)
	if err == nil {
		s.Errorf("kubectl %s is not refused: %s", strings.Join(args, " "), out)
	} else if !strings.Contains(err.Error(), says) {
		s.Errorf("kubectl %s says %v, want %q", strings.Join(args, " "), err, says)
	}
}

// started is a kubectl that goes on.
type started struct {
	*suite
	lines *bufio.Scanner
	in    io.WriteCloser
	end   func() error
}

// start runs a command with kubectl on its PATH that goes on until end.
func (s *suite) start(name string, args ...string) *started {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.ControlPlane.Kubeconfig, "PATH="+s.Bin+":"+os.Getenv("PATH"), "TERM=xterm")
	out, err := cmd.StdoutPipe()
	s.must("pipe", err)
	in, err := cmd.StdinPipe()
	s.must("pipe", err)
	cmd.Stderr = os.Stderr
	s.must("start "+name, cmd.Start())
	end := sync.OnceValue(func() error {
		_ = cmd.Process.Signal(os.Interrupt)
		return cmd.Wait()
	})
	s.Cleanup(func() { _ = end() })
	return &started{suite: s, lines: bufio.NewScanner(out), in: in, end: end}
}

// sees reads until a line has the words.
func (s *started) sees(words string) {
	s.Helper()
	timer := time.AfterFunc(limit, func() { _ = s.end() })
	defer timer.Stop()
	var seen []string
	for s.lines.Scan() {
		seen = append(seen, s.lines.Text())
		if strings.Contains(s.lines.Text(), words) {
			return
		}
	}
	s.Fatalf("%q is not in %q", words, seen)
}

// asKubectlSees looks at the live API with plain kubectl.
func (s *suite) asKubectlSees() {
	for _, want := range []string{"NAME", "READY", "LAST", "shop-1", "shop-2", "shop-3", "true"} {
		if out := s.kubectl("get", "heartbeats", "-A"); !strings.Contains(out, want) {
			s.Errorf("kubectl get heartbeats -A has no %s:\n%s", want, out)
		}
	}
	// At least one for each of two heartbeats.
	watch := s.start("kubectl", "get", "heartbeats", "-A", "--watch-only")
	for _, d := range []string{"shop-1", "shop-2", "shop-3", "shop-1", "shop-2", "shop-3"} {
		watch.sees(d)
	}
	out := s.kubectl("get", "placements", "-n", env.Namespace, "--field-selector", "status.phase=Running", "-o", "name")
	names := strings.Fields(out)
	slices.Sort(names)
	want := []string{"shop-1.hello", "shop-1.signage", "shop-2.hello", "shop-3.hello"}
	for i, w := range want {
		want[i] = "placement.live.fleet.nationtech.io/" + w
	}
	if !slices.Equal(names, want) {
		s.Errorf("what runs is %v, want %v", names, want)
	}
	if out := s.kubectl("get", "placements", "-A", "--field-selector", "status.phase=Failed", "-o", "name"); out != "" {
		s.Errorf("what failed is %s", out)
	}
	if out := s.kubectl("explain", "placements.status.phase"); !strings.Contains(out, "phase is where it stands") {
		s.Errorf("kubectl explain says\n%s", out)
	}
	// Of two groups with devices, the one with the kind to read comes first.
	if out := s.kubectl("get", "devices", "-n", env.Namespace, "-o", "name"); !strings.Contains(out, "device.fleet.nationtech.io/shop-1") {
		s.Errorf("kubectl get devices says\n%s", out)
	}
}

// commanded has devices do things by kubectl fleet.
func (s *suite) commanded() {
	shop := s.Devices[0]
	in := []string{"-n", env.Namespace}
	fleet := func(args ...string) string {
		s.Helper()
		return s.kubectl(append(append([]string{"fleet"}, in...), args...)...)
	}
	if out := fleet("ping", "shop-1", "shop-2"); !strings.Contains(out, "shop-1: ") || !strings.Contains(out, "shop-2: ") || !strings.Contains(out, "agent ") {
		s.Errorf("ping says %s", out)
	}
	if out := fleet("logs", "shop-1.hello"); !strings.Contains(out, "listens on") {
		s.Errorf("the log is %q", out)
	}
	if out := fleet("logs", "-l", "fleet.nationtech.io/test notin (x)", "--deployment", "signage"); !strings.Contains(out, "listens on") {
		s.Errorf("the log of all signage is %q", out)
	}
	follow := s.start("kubectl", "fleet", "logs", "-n", env.Namespace, "shop-1.hello", "-f", "--tail", "0")
	s.must("wait", env.Until(s.Context(), limit, "the log is followed", func(ctx context.Context) error {
		// Until it is, requests go unheard.
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, shop.HelloURL()+"heard", nil)
		if err != nil {
			return env.Permanent(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}))
	go func() {
		for s.Context().Err() == nil {
			_, _ = http.Get(shop.HelloURL() + "heard")
			time.Sleep(100 * time.Millisecond)
		}
	}()
	follow.sees(`GET "/heard"`)
	_ = follow.end()

	cat := s.start("kubectl", "fleet", "exec", "-n", env.Namespace, "-i", "shop-1.hello", "--", "/hello", "talk")
	_, err := io.WriteString(cat.in, "good morning\nexit 7\n")
	s.must("say it", err)
	cat.sees("you say: good morning")
	// It ends by itself, and is not interrupted.
	if cat.lines.Scan() {
		s.Errorf("it says %q", cat.lines.Text())
	}
	if err := cat.end(); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		s.Errorf("it ends with %v, want exit status 7", err)
	}
	terminal := s.start("script", "--quiet", "--return", "--command",
		"stty rows 33 cols 111; exec kubectl fleet exec -n "+env.Namespace+" -it shop-1.hello -- /hello talk", "/dev/null")
	// What is typed before there is a prompt would be the terminal's own to show.
	terminal.lines.Split(bufio.ScanRunes)
	prompt := ""
	for !strings.HasSuffix(prompt, "on shop-1> ") && terminal.lines.Scan() {
		prompt += terminal.lines.Text()
	}
	terminal.lines = bufio.NewScanner(readerOf(terminal.lines))
	_, err = io.WriteString(terminal.in, "size\r")
	s.must("ask for the size", err)
	terminal.sees("111 33")
	_, err = io.WriteString(terminal.in, "exit 5\r and what it does not read\r")
	s.must("leave", err)
	for terminal.lines.Scan() {
	}
	// It ends by itself with its own code, as cat above.
	if err := terminal.end(); err == nil || !strings.Contains(err.Error(), "exit status 5") {
		s.Errorf("the terminal ends with %v, want exit status 5", err)
	}

	before := s.containers("hello")
	if out := fleet("restart", "shop-1.hello"); !strings.Contains(out, "placement.live.fleet.nationtech.io/shop-1.hello restarted (hello)") {
		s.Errorf("restart says %s", out)
	}
	s.same("hello", before)
	s.must("wait", env.Until(s.Context(), limit, "the container has begun again", func(context.Context) error {
		if n := strings.Count(fleet("logs", "shop-1.hello"), "listens on"); n < 2 {
			return fmt.Errorf("it has begun %d times", n)
		}
		return nil
	}))

	for says, args := range map[string][]string{
		"commands.exec":            {"exec", "shop-2.hello", "--", "/hello", "talk"},
		"commands.logs":            {"logs", "shop-3.hello"},
		"commands.restart":         {"restart", "shop-3.hello"},
		`"shop-9" not found`:       {"logs", "shop-9"},
		`"shop-1.cms" not found`:   {"logs", "shop-1.cms"},
		"runs several Deployments": {"logs", "shop-1"},
	} {
		s.refused(s.ControlPlane.Kubeconfig, says, append(append([]string{"fleet"}, in...), args...)...)
	}
	if out, err := s.KubectlAs(s.Context(), s.ControlPlane.Kubeconfig, "fleet", "ping", "-n", env.Namespace, "shop-3"); err == nil || !strings.Contains(out, "commands.ping") {
		s.Errorf("ping of a device that forbids it says %s, %v", out, err)
	}
}

// readerOf goes on with what a scanner of runes has not read yet.
func readerOf(runes *bufio.Scanner) io.Reader {
	r, w := io.Pipe()
	go func() {
		for runes.Scan() {
			if _, err := w.Write(runes.Bytes()); err != nil {
				return
			}
		}
		_ = w.Close()
	}()
	return r
}

// rights checks who may do what, and that the API server has written down who did.
func (s *suite) rights() {
	people := map[string]string{}
	for _, role := range []string{"view", "edit", "admin"} {
		kubeconfig, err := s.Person(s.Context(), role+"er", role)
		s.must("make a person", err)
		people[role] = kubeconfig
	}
	nobody, err := s.ControlPlane.UserKubeconfig(s.Context(), "stranger")
	s.must("make a stranger", err)
	people[""] = nobody
	rank := map[string]int{"": 0, "view": 1, "edit": 2, "admin": 3}
	for _, may := range []struct {
		least, verb, resource, subresource string
		try                                []string
	}{
		{"view", "list", "heartbeats", "", []string{"get", "heartbeats"}},
		{"view", "watch", "placements", "", []string{"get", "placements"}},
		{"view", "get", "devices", "ping", []string{"fleet", "ping", "shop-1"}},
		{"view", "get", "placements", "log", []string{"fleet", "logs", "shop-1.hello"}},
		{"edit", "create", "placements", "restart", []string{"fleet", "restart", "shop-2.hello"}},
		{"admin", "create", "placements", "exec", []string{"fleet", "exec", "shop-1.hello", "--", "/hello", "talk"}},
	} {
		for _, role := range slices.Sorted(maps.Keys(people)) {
			args := []string{"auth", "can-i", may.verb, may.resource + ".live.fleet.nationtech.io", "-n", env.Namespace}
			if may.subresource != "" {
				args = append(args, "--subresource", may.subresource)
			}
			out, _ := s.KubectlAs(s.Context(), people[role], args...)
			allowed := rank[role] >= rank[may.least]
			if want := map[bool]string{true: "yes", false: "no"}[allowed]; strings.TrimSpace(out) != want {
				s.Errorf("%s may %s %s/%s: %s, want %s", role, may.verb, may.resource, may.subresource, out, want)
			}
			out, err := s.KubectlAs(s.Context(), people[role], append(may.try, "-n", env.Namespace)...)
			if dash := slices.Index(may.try, "--"); dash >= 0 {
				out, err = s.KubectlAs(s.Context(), people[role], slices.Insert(slices.Clone(may.try), dash, "-n", env.Namespace)...)
			}
			switch {
			case allowed && err != nil:
				s.Errorf("%s is refused %v: %v", role, may.try, err)
			case !allowed && err == nil:
				s.Errorf("%q does %v: %s", role, may.try, out)
			case !allowed && !strings.Contains(out+err.Error(), "orbidden"):
				s.Errorf("%q is refused %v with %v", role, may.try, err)
			}
		}
	}
	// Whoever may get everything has no shell by it.
	s.must("make a role", s.Client.Create(s.Context(), readerRole()))
	reader, err := s.Person(s.Context(), "reader", "read-everything")
	s.must("make a reader", err)
	s.refused(reader, "orbidden", "fleet", "exec", "-n", env.Namespace, "shop-1.hello", "--", "/hello", "talk")

	s.must("wait", env.Until(s.Context(), limit, "the audit log names who did what", func(context.Context) error {
		events, err := audited(s.AuditLog())
		if err != nil {
			return err
		}
		for _, want := range []string{
			"viewer list heartbeats/ 200", "viewer get devices/ping shop-1 200", "viewer get placements/log shop-1.hello 200",
			"viewer create placements/restart shop-2.hello 403", "editer create placements/restart shop-2.hello 200",
			"editer get placements/exec shop-1.hello 403", "adminer get placements/exec shop-1.hello 101",
		} {
			if !events[want] {
				return fmt.Errorf("%q is not in %s", want, s.AuditLog())
			}
		}
		return nil
	}))
}

func readerRole() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": map[string]any{"name": "read-everything"},
		"rules": []any{map[string]any{"apiGroups": []any{"*"}, "resources": []any{"*"}, "verbs": []any{"get", "list", "watch"}}},
	}}
}

// audited is who did what, from an audit log.
func audited(path string) (map[string]bool, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		if e.ObjectRef == nil || e.ResponseStatus == nil {
			continue
		}
		o := e.ObjectRef
		what := strings.TrimSpace(fmt.Sprintf("%s %s %s/%s %s", e.User.Username, e.Verb, o.Resource, o.Subresource, o.Name))
		out[fmt.Sprintf("%s %d", what, e.ResponseStatus.Code)] = true
	}
	return out, lines.Err()
}
