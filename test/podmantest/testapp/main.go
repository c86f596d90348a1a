// Testapp is what the containers of the tests run: one small static program that
// serves, fails, ends or waits as its arguments say.
//
//	testapp serve            HTTP on $PORT (8080): / says $MSG, /file?path=… a file's
//	                         content, /ready whether it is well, /set?ready=… changes
//	                         that, /exit?code=… ends it
//	testapp exit CODE        ends at once
//	testapp write PATH TEXT  writes a file and ends
//	testapp check            ends with 0 as long as the server on $PORT is well
//	testapp sleep            does nothing until SIGTERM
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	switch {
	case args[0] == "serve":
		return serve()
	case args[0] == "exit" && len(args) == 2:
		code, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		os.Exit(code)
	case args[0] == "write" && len(args) == 3:
		return os.WriteFile(args[1], []byte(args[2]), 0o644)
	case args[0] == "check":
		return check()
	case args[0] == "sleep":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		<-ended
		return nil
	}
	return fmt.Errorf("unknown arguments %q", args)
}

func port() string {
	if p := os.Getenv("PORT"); p != "" {
		return p
	}
	return "8080"
}

func serve() error {
	var ready atomic.Bool
	ready.Store(os.Getenv("READY") != "false")
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("MSG")) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(r.FormValue("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/set", func(_ http.ResponseWriter, r *http.Request) { ready.Store(r.FormValue("ready") == "true") })
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.FormValue("code"))
		if err != nil {
			code = 1
		}
		os.Exit(code)
	})
	fmt.Printf("serves on port %s and says %s\n", port(), os.Getenv("MSG"))
	return http.ListenAndServe(":"+port(), mux)
}

func check() error {
	resp, err := http.Get("http://127.0.0.1:" + port() + "/ready")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
