package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ask asks the operator for what it serves beside its metrics, and them.
func (l *load) ask(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, "http://"+l.fleet.MetricsAddr+path)
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return data, err
}

// metric finds one in what a process says of itself.
func metric(text []byte, name string) (*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if f := families[name]; f != nil && len(f.Metric) > 0 {
		return f, nil
	}
	return nil, fmt.Errorf("there is no metric %s", name)
}

// online is how many devices the operator has online.
func (l *load) online(ctx context.Context) (int, error) {
	text, err := l.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	family, err := metric(text, "fleet_devices_online")
	if err != nil {
		return 0, err
	}
	return int(family.Metric[0].GetGauge().GetValue()), nil
}

// apiWrites is how many times the API server was asked to write what the operator writes.
func (l *load) apiWrites(ctx context.Context) (float64, error) {
	text, err := l.fleet.KubectlAs(ctx, l.fleet.ControlPlane.Kubeconfig, "get", "--raw", "/metrics")
	if err != nil {
		return 0, err
	}
	family, err := metric([]byte(text), "apiserver_request_total")
	if err != nil {
		return 0, err
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

// profile writes down where the time and the memory of the operator, of the NATS server and of
// this process go, until the function is called that it returns.
func (l *load) profile(ctx context.Context, step string) (stop func()) {
	if l.profiles == "" || l.fleet == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	file := func(of, kind string) string {
		return filepath.Join(l.profiles, fmt.Sprintf("%s-%s-%s.pprof", strings.ReplaceAll(step, " ", "-"), of, kind))
	}
	served := map[string]string{"operator": "http://" + l.fleet.MetricsAddr, "nats": l.fleet.ControlPlane.NATSProfile}
	own, err := os.Create(file("devices", "cpu"))
	if err == nil {
		err = pprof.StartCPUProfile(own)
	}
	if err != nil {
		l.progress.Say("  no profile of the devices: %v", err)
	}
	var parts sync.WaitGroup
	for of, url := range served {
		parts.Go(func() {
			if err := profiles(ctx, url, func(n int) string { return file(of, fmt.Sprint("cpu-", n)) }); err != nil {
				l.progress.Say("  no profile: %v", err)
			}
		})
	}
	return func() {
		cancel()
		parts.Wait()
		pprof.StopCPUProfile()
		heap := &bytes.Buffer{}
		err := errors.Join(pprof.WriteHeapProfile(heap), own.Close(), os.WriteFile(file("devices", "heap"), heap.Bytes(), 0o644))
		for of, url := range served {
			// Not with the step's context, which is the operator's end in one of them.
			if data, asked := get(context.Background(), url+"/debug/pprof/heap?gc=1"); asked == nil {
				err = errors.Join(err, os.WriteFile(file(of, "heap"), data, 0o644))
			}
		}
		if err != nil {
			l.progress.Say("  profiles are missing: %v", err)
		}
	}
}

// profiles asks a process again and again where its time goes, until the context ends.
func profiles(ctx context.Context, url string, file func(int) string) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for n := 1; ctx.Err() == nil; {
		data, err := get(ctx, url+"/debug/pprof/profile?seconds=5")
		if err != nil {
			// The step is over, or there is no such process yet.
			pause.Reset(100 * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			continue
		}
		if err := os.WriteFile(file(n), data, 0o644); err != nil {
			return err
		}
		n++
	}
	return nil
}
