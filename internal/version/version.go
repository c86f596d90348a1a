// Package version holds the version that every binary of fleet is built as.
package version

// Version is set by the linker; a plain `go build` leaves it at dev.
var Version = "dev"
