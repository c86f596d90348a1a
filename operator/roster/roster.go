// Package roster is the operator's index of the Devices and Deployments in the
// cluster: which Device has an ID, and which Devices a Deployment selects. One
// changed Device costs O(Deployments of its namespace), one changed selector
// O(Devices of its namespace), and asking costs nothing but the answer.
package roster

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleet/api/v1alpha1"
	"github.com/nationtech/fleet/contracts"
	"github.com/nationtech/fleet/operator/coalesce"
	"github.com/nationtech/fleet/operator/rollout"
)

// Device is what the roster keeps of a Device. It is never changed: a changed
// Device is another one.
type Device struct {
	ID        contracts.DeviceID
	Namespace string
	UID       types.UID
	Created   time.Time
	Labels    map[string]string
	PublicKey string
	// Approved tells what somebody has decided; nil is nothing yet.
	Approved *bool
	Cordoned bool
	Deleting bool
}

// IsApproved reports whether the device takes part in the fleet.
func (d *Device) IsApproved() bool { return d.Approved != nil && *d.Approved && !d.Deleting }

// Member is a Device that a Deployment selects.
type Member struct {
	*Device
	order uint64
}

// Roster is safe for use by many goroutines.
type Roster struct {
	deploymentsChanged *coalesce.Set[types.NamespacedName]
	devicesChanged     *coalesce.Set[types.NamespacedName]

	mu sync.RWMutex
	// byID has the Devices of an ID, the one that has it first.
	byID map[contracts.DeviceID][]*Device
	// contested are the IDs that more than one Device would have.
	contested   map[contracts.DeviceID]struct{}
	byNamespace map[string]map[contracts.DeviceID]*Device
	deployments map[string]map[string]*deployment
	size        int
	observers   []func(id contracts.DeviceID, before, after *Device)
}

// Observe has a function told of the Device that has an ID whenever that changes;
// nil is nobody. A lock is held meanwhile: it must neither block nor call the
// Roster. It has to be set before the first Device.
func (r *Roster) Observe(observe func(id contracts.DeviceID, before, after *Device)) {
	r.observers = append(r.observers, observe)
}

type deployment struct {
	selector labels.Selector
	members  map[contracts.DeviceID]Member
	// sorted is members in their order; nil when it has to be made anew.
	sorted []Member
	// lost counts the times that a device may have ceased to be a member.
	lost uint64
}

// New makes an empty Roster.
func New() *Roster {
	return &Roster{
		deploymentsChanged: coalesce.New[types.NamespacedName](),
		devicesChanged:     coalesce.New[types.NamespacedName](),
		byID:               map[contracts.DeviceID][]*Device{},
		contested:          map[contracts.DeviceID]struct{}{},
		byNamespace:        map[string]map[contracts.DeviceID]*Device{},
		deployments:        map[string]map[string]*deployment{},
	}
}

// ChangedDeployments collects the Deployments whose members have changed.
func (r *Roster) ChangedDeployments() *coalesce.Set[types.NamespacedName] {
	return r.deploymentsChanged
}

// ChangedDevices collects the Devices that another Device of the same name
// concerns.
func (r *Roster) ChangedDevices() *coalesce.Set[types.NamespacedName] { return r.devicesChanged }

// Set takes in a Device as it is in the cluster.
func (r *Roster) Set(d *v1alpha1.Device) {
	r.replace(contracts.DeviceID(d.Name), d.Namespace, Of(d))
}

// Of is what the roster keeps of a Device.
func Of(d *v1alpha1.Device) *Device {
	return &Device{
		ID: contracts.DeviceID(d.Name), Namespace: d.Namespace, UID: d.UID, Created: d.CreationTimestamp.Time,
		Labels: d.Labels, PublicKey: d.Spec.PublicKey, Approved: d.Spec.Approved, Cordoned: d.Spec.Cordoned,
		Deleting: d.DeletionTimestamp != nil,
	}
}

// Remove takes out a Device that is gone.
func (r *Roster) Remove(key types.NamespacedName) {
	r.replace(contracts.DeviceID(key.Name), key.Namespace, nil)
}

func (r *Roster) replace(id contracts.DeviceID, namespace string, d *Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.winner(id)
	same := slices.DeleteFunc(slices.Clone(r.byID[id]), func(o *Device) bool { return o.Namespace == namespace })
	known := len(same) < len(r.byID[id])
	if d != nil {
		same = append(same, d)
		slices.SortFunc(same, older)
	}
	if len(same) == 0 {
		delete(r.byID, id)
	} else {
		r.byID[id] = same
	}
	if len(same) > 1 {
		r.contested[id] = struct{}{}
	} else {
		delete(r.contested, id)
	}
	if r.byNamespace[namespace] == nil {
		r.byNamespace[namespace] = map[contracts.DeviceID]*Device{}
	}
	if d != nil {
		r.byNamespace[namespace][id] = d
	} else {
		delete(r.byNamespace[namespace], id)
	}
	if !known && d != nil {
		r.size++
	}
	if known && d == nil {
		r.size--
	}
	r.place(namespace, id)
	after := r.winner(id)
	if before != after {
		for _, observe := range r.observers {
			observe(id, before, after)
		}
	}
	if before == after || (before != nil && after != nil && before.Namespace == after.Namespace) {
		if d != nil && len(same) > 1 && !known {
			r.devicesChanged.Add(types.NamespacedName{Namespace: namespace, Name: string(id)})
		}
		return
	}
	// The ID has gone from one Device to another: both, and every other of the
	// name, have to say so.
	for _, o := range same {
		r.place(o.Namespace, id)
		r.devicesChanged.Add(types.NamespacedName{Namespace: o.Namespace, Name: string(id)})
	}
}

// older orders Devices of one name. Creation is in whole seconds, so the namespace
// decides between Devices of one second.
func older(a, b *Device) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.UID, b.UID))
}

// winner is the Device that has an ID: the oldest.
func (r *Roster) winner(id contracts.DeviceID) *Device {
	if same := r.byID[id]; len(same) > 0 {
		return same[0]
	}
	return nil
}

// place puts the Device of a namespace into, or takes it out of, the members of
// each Deployment of the namespace.
func (r *Roster) place(namespace string, id contracts.DeviceID) {
	d := r.byNamespace[namespace][id]
	for name, dep := range r.deployments[namespace] {
		before, was := dep.members[id]
		if !r.selects(dep, d) {
			if was {
				delete(dep.members, id)
				dep.sorted = nil
				dep.lost++
				r.deploymentsChanged.Add(types.NamespacedName{Namespace: namespace, Name: name})
			}
			continue
		}
		if was && sameForDeployments(before.Device, d) {
			// The object is replaced in the sorted list too when that is made anew;
			// nothing that a Deployment looks at differs.
			continue
		}
		dep.members[id] = Member{Device: d, order: rollout.Order(namespace, name, id)}
		dep.sorted = nil
		r.deploymentsChanged.Add(types.NamespacedName{Namespace: namespace, Name: name})
	}
}

func sameForDeployments(a, b *Device) bool {
	return a.Cordoned == b.Cordoned && a.PublicKey == b.PublicKey && maps.Equal(a.Labels, b.Labels)
}

// selects reports whether the Deployment selects the Device: an unapproved one,
// one whose ID belongs to another and one that is being deleted are selected by
// nothing.
func (r *Roster) selects(dep *deployment, d *Device) bool {
	return d != nil && d.IsApproved() && r.winner(d.ID) == d && dep.selector.Matches(labels.Set(d.Labels))
}

// Select sets what a Deployment selects. An empty selector selects nothing.
func (r *Roster) Select(key types.NamespacedName, selector *metav1.LabelSelector) error {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return err
	}
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		s = labels.Nothing()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deployments[key.Namespace] == nil {
		r.deployments[key.Namespace] = map[string]*deployment{}
	}
	dep := &deployment{selector: s, members: map[contracts.DeviceID]Member{}}
	if old := r.deployments[key.Namespace][key.Name]; old != nil {
		if old.selector.String() == s.String() {
			return nil
		}
		dep.lost = old.lost + 1
	}
	r.deployments[key.Namespace][key.Name] = dep
	for id, d := range r.byNamespace[key.Namespace] {
		if r.selects(dep, d) {
			dep.members[id] = Member{Device: d, order: rollout.Order(key.Namespace, key.Name, id)}
		}
	}
	return nil
}

// Forget takes out a Deployment that is gone.
func (r *Roster) Forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.deployments[key.Namespace], key.Name)
}

// Members returns the Devices that a Deployment selects, in the order in which
// they are told, and a function that reports whether a device is among them. The
// slice is shared: don't change it.
func (r *Roster) Members(key types.NamespacedName) []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	dep := r.deployments[key.Namespace][key.Name]
	if dep == nil {
		return nil
	}
	if dep.sorted == nil {
		dep.sorted = slices.SortedFunc(maps.Values(dep.members), func(a, b Member) int {
			return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.ID, b.ID))
		})
	}
	return dep.sorted
}

// Selecting lists the Deployments that select a device.
func (r *Roster) Selecting(id contracts.DeviceID) (keys []types.NamespacedName) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d := r.winner(id)
	if d == nil {
		return nil
	}
	for name, dep := range r.deployments[d.Namespace] {
		if _, ok := dep.members[id]; ok {
			keys = append(keys, types.NamespacedName{Namespace: d.Namespace, Name: name})
		}
	}
	return keys
}

// Selects reports whether a Deployment selects a device; known is false while the
// roster was not told what it selects.
func (r *Roster) Selects(key types.NamespacedName, id contracts.DeviceID) (selects, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	dep := r.deployments[key.Namespace][key.Name]
	if dep == nil {
		return false, false
	}
	_, selects = dep.members[id]
	return selects, true
}

// Lost changes when a device may have ceased to be selected by a Deployment.
func (r *Roster) Lost(key types.NamespacedName) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if dep := r.deployments[key.Namespace][key.Name]; dep != nil {
		return dep.lost
	}
	return 0
}

// Owner returns the Device that has an ID; false when there is none.
func (r *Roster) Owner(id contracts.DeviceID) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if d := r.winner(id); d != nil {
		return *d, true
	}
	return Device{}, false
}

// Named lists the Devices of a name, over all namespaces.
func (r *Roster) Named(id contracts.DeviceID) []types.NamespacedName {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []types.NamespacedName
	for _, d := range r.byID[id] {
		out = append(out, types.NamespacedName{Namespace: d.Namespace, Name: string(id)})
	}
	return out
}

// Devices lists the Devices of a namespace, of all when it is empty, in no order, and has
// the Device that has the ID of each one that has not got it. They are shared: don't
// change them.
func (r *Roster) Devices(namespace string) (devices []*Device, owners map[*Device]*Device) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if namespace != "" {
		devices = slices.AppendSeq(make([]*Device, 0, len(r.byNamespace[namespace])), maps.Values(r.byNamespace[namespace]))
	} else {
		devices = make([]*Device, 0, r.size)
		for _, of := range r.byNamespace {
			devices = slices.AppendSeq(devices, maps.Values(of))
		}
	}
	owners = map[*Device]*Device{}
	for id := range r.contested {
		for _, d := range r.byID[id][1:] {
			owners[d] = r.winner(id)
		}
	}
	return devices, owners
}

// Len is how many Devices there are.
func (r *Roster) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.size
}

// Device returns the Device of a namespace with an ID; false when there is none.
func (r *Roster) Device(namespace string, id contracts.DeviceID) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, ok := r.byNamespace[namespace][id]
	if !ok {
		return Device{}, false
	}
	return *d, true
}
