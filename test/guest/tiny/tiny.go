// Package tiny is what the tiny guest says to whoever asks it over HTTP. It is apart from
// package guest because the guest's own program is made of it.
package tiny

// Port is where it answers.
const Port = 80

// Hello is the answer.
type Hello struct {
	Hostname string `json:"hostname"`
	// InstanceID and UserData are those of the cloud-init seed, if there is one.
	InstanceID string `json:"instanceID,omitempty"`
	UserData   string `json:"userData,omitempty"`
	CPUs       int    `json:"cpus"`
	MemoryKiB  int    `json:"memoryKiB"`
	// BootID is another one after each boot.
	BootID string `json:"bootID"`
	// Boots counts, by name such as vdb, on each disk that was empty once, how often a
	// guest has booted with it.
	Boots map[string]int `json:"boots,omitempty"`
}
