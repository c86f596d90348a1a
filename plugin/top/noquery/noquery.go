// Package noquery keeps bubbletea from asking the terminal for its colours when it is
// imported: its init would write the question on every command of the plugin, wait for
// the answer, at worst five seconds, and swallow what the user types meanwhile.
//
// The library that asks takes a set CI for "no terminal". Go initialises packages in
// the order of their paths as soon as what they import is initialised, so this one,
// which imports nothing but os, comes before bubbletea, which imports os/exec. Whoever
// imports bubbletea calls Done in its init, which comes after bubbletea's.
package noquery

import "os"

const variable = "CI"

var before, set = os.LookupEnv(variable)

func init() { os.Setenv(variable, "true") }

// Done puts the environment back as it was.
func Done() {
	if set {
		os.Setenv(variable, before)
	} else {
		os.Unsetenv(variable)
	}
}
