// Command hello is the workload that demo and tests roll out: a web server that
// says which version it is and where it runs. As `hello talk` it is what one can exec
// in its container, where there is no shell.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Greeting is what hello answers.
type Greeting struct {
	Version  string `json:"version"`
	Device   string `json:"device,omitempty"`
	Greeting string `json:"greeting,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "talk" {
		os.Exit(talk(os.Stdin, os.Stdout))
	}
	if err := serve(ctx, ":"+envOr("PORT", "8080")); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, addr string) error {
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(answer)}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Printf("hello %s listens on %s\n", version(), addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		if err := server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	fmt.Printf("%s %q\n", r.Method, r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(Greeting{Version: version(), Device: os.Getenv("DEVICE"), Greeting: os.Getenv("GREETING")})
}

// version is in the environment of the image, so that two versions are two images
// of one binary.
func version() string { return envOr("HELLO_VERSION", "dev") }

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
