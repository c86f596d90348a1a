package supervise

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

// Server is an HTTP server to run inside this process, with the life of a
// child process: it can be stopped, killed and started again on its port.
type Server struct {
	Addr    string
	Handler http.Handler
	Log     string
}

type server struct {
	http *http.Server
	done chan struct{}
	err  error
}

// Start listens and serves.
func (s Server) Start() (Instance, error) {
	logFile, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		logFile.Close()
		return nil, err
	}
	logger := log.New(logFile, "", log.LstdFlags|log.Lmicroseconds)
	inst := &server{
		http: &http.Server{Handler: logged(logger, s.Handler), ErrorLog: logger, ReadHeaderTimeout: 10 * time.Second},
		done: make(chan struct{}),
	}
	go func() {
		inst.err = inst.http.Serve(listener)
		if errors.Is(inst.err, http.ErrServerClosed) {
			inst.err = errors.New("stopped")
		}
		logFile.Close()
		close(inst.done)
	}()
	return inst, nil
}

func (s *server) PID() int              { return os.Getpid() }
func (s *server) Done() <-chan struct{} { return s.done }
func (s *server) Err() error            { return s.err }
func (s *server) Kill()                 { _ = s.http.Close() }

// Stop lets running requests end, for a second: the listener closes at once,
// and with it Done.
func (s *server) Stop() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.Kill()
		}
	}()
}

func logged(logger *log.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		logger.Printf("%s %s %d %s", r.Method, r.URL.RequestURI(), rec.status, time.Since(began).Round(time.Millisecond))
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the Flusher beneath.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
