package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metric reads one of the operator's.
func (l *load) metric(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.fleet.MetricsAddr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return 0, err
	}
	if f := families[name]; f != nil && len(f.Metric) > 0 && f.Metric[0].Gauge != nil {
		return f.Metric[0].Gauge.GetValue(), nil
	}
	return 0, fmt.Errorf("the operator has no metric %s", name)
}

// apiWrites is how many times the API server was asked to write what the operator writes.
func (l *load) apiWrites(ctx context.Context) (float64, error) {
	text, err := l.fleet.KubectlAs(ctx, l.fleet.ControlPlane.Kubeconfig, "get", "--raw", "/metrics")
	if err != nil {
		return 0, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return 0, err
	}
	family := families["apiserver_request_total"]
	if family == nil {
		return 0, errors.New("the API server has no metric apiserver_request_total")
	}
	sum := 0.0
	for _, m := range family.Metric {
		is := map[string]string{}
		for _, label := range m.Label {
			is[label.GetName()] = label.GetValue()
		}
		switch is["resource"] {
		case "devices", "deployments", "events", "controllerrevisions":
			switch is["verb"] {
			case "POST", "PUT", "PATCH", "APPLY", "DELETE":
				sum += m.Counter.GetValue()
			}
		}
	}
	return sum, nil
}

// profile writes down where the time of the operator and of this process goes, until the
// function is called that it returns.
func (l *load) profile(ctx context.Context, step string) (stop func()) {
	if l.profiles == "" || l.fleet == nil || l.fleet.Operator == nil || !l.fleet.Operator.Running() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	own, err := os.Create(filepath.Join(l.profiles, "devices-and-broker-"+strings.ReplaceAll(step, " ", "-")+".pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(own)
	}
	if err != nil {
		l.progress.Say("  no profile of devices and broker: %v", err)
	}
	go func() {
		defer close(done)
		for n := 1; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("%s-%d.pprof", strings.ReplaceAll(step, " ", "-"), n)
			if err := l.download(ctx, "/debug/pprof/profile?seconds=5", filepath.Join(l.profiles, name)); err != nil {
				return // the step is over, or the operator
			}
		}
	}()
	return func() {
		cancel()
		<-done
		pprof.StopCPUProfile()
	}
}

func (l *load) download(ctx context.Context, path, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.fleet.MetricsAddr+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s answers %s", path, response.Status))
	}
	return os.WriteFile(file, data, 0o644)
}
