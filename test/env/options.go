package env

import "path/filepath"

// Options say where a fleet is brought up.
type Options struct {
	// Dir holds everything that the run writes. It is kept short, because unix
	// sockets below it may have at most 107 characters in their path.
	Dir string
	// Bin holds the binaries that `make build` made.
	Bin string
}

func (o Options) natsConfig() string { return filepath.Join(o.Dir, "nats.conf") }
