package manifests_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const system = "fleet-system"

// peer is one end of a connection: a pod, or with no namespace something outside.
type peer struct {
	namespace string
	labels    labels.Set
	ports     []corev1.ContainerPort
}

var outside = peer{}

// network is the pods and the rules of what is installed.
type network struct {
	pods     map[string]peer
	services []corev1.Service
	policies []networkingv1.NetworkPolicy
	// probed are the ports that the kubelet alone has to reach, by pod.
	probed map[string][]string
}

func installed(t *testing.T, dir string) *network {
	t.Helper()
	n := &network{pods: map[string]peer{}, probed: map[string][]string{}}
	for _, o := range render(t, dir) {
		switch o.GetKind() {
		case "NetworkPolicy":
			var p networkingv1.NetworkPolicy
			convert(t, o, &p)
			n.policies = append(n.policies, p)
		case "Service":
			var s corev1.Service
			convert(t, o, &s)
			n.services = append(n.services, s)
		default:
			template := podTemplate(t, o)
			if len(template.Spec.Containers) == 0 {
				continue
			}
			pod := peer{o.GetNamespace(), template.Labels, nil}
			for _, c := range template.Spec.Containers {
				pod.ports = append(pod.ports, c.Ports...)
				for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
					if probe != nil {
						n.probed[o.GetName()] = append(n.probed[o.GetName()], probe.HTTPGet.Port.StrVal)
					}
				}
			}
			n.pods[o.GetName()] = pod
		}
	}
	return n
}

func selects(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(set)
}

// is reports whether a rule's peer means this one, seen from a policy in a namespace.
func is(p networkingv1.NetworkPolicyPeer, policy string, other peer) bool {
	if p.IPBlock != nil || other.namespace == "" {
		return false
	}
	if p.NamespaceSelector == nil && other.namespace != policy {
		return false
	}
	if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, labels.Set{corev1.LabelMetadataName: other.namespace}) {
		return false
	}
	return p.PodSelector == nil || selects(p.PodSelector, other.labels)
}

// names reports whether a rule's port means the port of a pod.
func names(p networkingv1.NetworkPolicyPort, to peer, port int32, protocol corev1.Protocol) bool {
	want := corev1.ProtocolTCP
	if p.Protocol != nil {
		want = *p.Protocol
	}
	if want != protocol {
		return false
	}
	if p.Port.Type == intstr.Int {
		return p.Port.IntVal == port
	}
	return slices.ContainsFunc(to.ports, func(c corev1.ContainerPort) bool { return c.Name == p.Port.StrVal && c.ContainerPort == port })
}

// lets reports whether the policies of one end, those of the direction, let it talk to
// the other. A pod that no policy selects may do everything.
func (n *network) lets(direction networkingv1.PolicyType, self, other, to peer, port int32, protocol corev1.Protocol) bool {
	if self.namespace == "" {
		return true
	}
	selected := false
	for _, p := range n.policies {
		if p.Namespace != self.namespace || !selects(&p.Spec.PodSelector, self.labels) || !slices.Contains(p.Spec.PolicyTypes, direction) {
			continue
		}
		selected = true
		match := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) bool {
			return (len(peers) == 0 || slices.ContainsFunc(peers, func(r networkingv1.NetworkPolicyPeer) bool { return is(r, p.Namespace, other) })) &&
				(len(ports) == 0 || slices.ContainsFunc(ports, func(r networkingv1.NetworkPolicyPort) bool { return names(r, to, port, protocol) }))
		}
		for _, r := range p.Spec.Ingress {
			if direction == networkingv1.PolicyTypeIngress && match(r.From, r.Ports) {
				return true
			}
		}
		for _, r := range p.Spec.Egress {
			if direction == networkingv1.PolicyTypeEgress && match(r.To, r.Ports) {
				return true
			}
		}
	}
	return !selected
}

// reaches reports whether both ends let a connection be made.
func (n *network) reaches(from, to peer, port int32, protocol corev1.Protocol) bool {
	return n.lets(networkingv1.PolicyTypeEgress, from, to, to, port, protocol) &&
		n.lets(networkingv1.PolicyTypeIngress, to, from, to, port, protocol)
}

// installations are the folders that hold all of fleet.
var installations = []string{"default", "cluster", "testdata/sites", "testdata/cert-manager-cluster"}

func TestPoliciesLetThroughWhatIsNeededAndNothingElse(t *testing.T) {
	for _, dir := range installations {
		t.Run(dir, func(t *testing.T) { testPolicies(t, installed(t, dir), dir != "default", dir == "testdata/sites") })
	}
}

func testPolicies(t *testing.T, n *network, cluster, sites bool) {
	operator, nats, setup := n.pods["fleet-operator"], n.pods["fleet-nats"], n.pods["fleet-setup"]
	prometheus := peer{"monitoring", labels.Set{"app.kubernetes.io/name": "prometheus"}, nil}
	dns := peer{"kube-system", labels.Set{"k8s-app": "kube-dns"}, nil}
	neighbour := peer{system, labels.Set{"app": "other"}, nil}
	tenant := peer{"shops", labels.Set{"app": "web"}, nil}
	for _, tt := range []struct {
		name     string
		from, to peer
		port     int32
		protocol corev1.Protocol
		want     bool
	}{
		{"a device to NATS", outside, nats, 4222, corev1.ProtocolTCP, true},
		{"the operator to NATS", operator, nats, 4222, corev1.ProtocolTCP, true},
		{"the API server to the live API", outside, operator, 8443, corev1.ProtocolTCP, true},
		{"the operator to the API server", operator, outside, 443, corev1.ProtocolTCP, true},
		{"the operator to an API server at its own port", operator, outside, 6443, corev1.ProtocolTCP, true},
		{"the operator to DNS", operator, dns, 53, corev1.ProtocolUDP, true},
		{"setup to the API server", setup, outside, 443, corev1.ProtocolTCP, true},
		{"Prometheus to the operator's metrics", prometheus, operator, 8080, corev1.ProtocolTCP, true},
		{"Prometheus to NATS's monitor", prometheus, nats, 8222, corev1.ProtocolTCP, true},

		{"the world to NATS's monitor", outside, nats, 8222, corev1.ProtocolTCP, false},
		{"a tenant to NATS's monitor", tenant, nats, 8222, corev1.ProtocolTCP, false},
		{"the operator to NATS's monitor", operator, nats, 8222, corev1.ProtocolTCP, false},
		{"the world to the operator's metrics", outside, operator, 8080, corev1.ProtocolTCP, false},
		{"a tenant to the operator's metrics", tenant, operator, 8080, corev1.ProtocolTCP, false},
		{"a neighbour to the operator's metrics", neighbour, operator, 8080, corev1.ProtocolTCP, false},
		{"the world to the operator's probes", outside, operator, 9440, corev1.ProtocolTCP, false},
		{"the operator to the world", operator, outside, 80, corev1.ProtocolTCP, false},
		{"the operator to a tenant", operator, tenant, 8080, corev1.ProtocolTCP, false},
		{"the operator to a DNS server outside", operator, outside, 53, corev1.ProtocolUDP, false},
		{"setup to the world", setup, outside, 80, corev1.ProtocolTCP, false},
		{"setup to NATS", setup, nats, 4222, corev1.ProtocolTCP, false},
		{"the world to setup", outside, setup, 80, corev1.ProtocolTCP, false},
		{"NATS to the world", nats, outside, 443, corev1.ProtocolTCP, false},
		{"NATS to the operator", nats, operator, 8443, corev1.ProtocolTCP, false},
		{"NATS to DNS", nats, dns, 53, corev1.ProtocolUDP, cluster},
		{"NATS to another server of the cluster", nats, nats, 6222, corev1.ProtocolTCP, cluster},
		{"the operator to the cluster's port", operator, nats, 6222, corev1.ProtocolTCP, false},
		{"a site to NATS", outside, nats, 7422, corev1.ProtocolTCP, sites},
		{"a neighbour to the cluster's port", neighbour, nats, 6222, corev1.ProtocolTCP, false},
		{"the world to the cluster's port", outside, nats, 6222, corev1.ProtocolTCP, false},
		{"a neighbour to the world", neighbour, outside, 443, corev1.ProtocolTCP, false},
		{"the world to a neighbour", outside, neighbour, 80, corev1.ProtocolTCP, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := n.reaches(tt.from, tt.to, tt.port, tt.protocol); got != tt.want {
				t.Errorf("port %d: %v, want %v", tt.port, got, tt.want)
			}
		})
	}
}

// TestPoliciesServicesAndPodsAgree finds a port or a label that was changed in one place.
func TestPoliciesServicesAndPodsAgree(t *testing.T) {
	for _, dir := range installations {
		t.Run(dir, func(t *testing.T) { testAgreement(t, installed(t, dir)) })
	}
}

func testAgreement(t *testing.T, n *network) {
	for _, p := range n.policies {
		everyone := len(p.Spec.PodSelector.MatchLabels) == 0
		named, selected := map[string]bool{}, 0
		for _, pod := range n.pods {
			if !everyone && pod.namespace == p.Namespace && selects(&p.Spec.PodSelector, pod.labels) {
				selected++
				for _, c := range pod.ports {
					named[c.Name] = true
				}
			}
		}
		if !everyone && selected == 0 {
			t.Errorf("policy %s selects no pod", p.Name)
		}
		for _, r := range p.Spec.Ingress {
			for _, port := range r.Ports {
				if !named[port.Port.StrVal] {
					t.Errorf("policy %s: its pods have no port %s", p.Name, port.Port.String())
				}
			}
		}
		if len(p.Spec.PolicyTypes) != 2 {
			t.Errorf("policy %s is of %v only", p.Name, p.Spec.PolicyTypes)
		}
	}
	for name, pod := range n.pods {
		of := slices.DeleteFunc(slices.Clone(n.policies), func(p networkingv1.NetworkPolicy) bool {
			return p.Namespace != pod.namespace || len(p.Spec.PodSelector.MatchLabels) == 0 || !selects(&p.Spec.PodSelector, pod.labels)
		})
		if len(of) != 1 {
			t.Errorf("%d policies select pod %s, want one of its own", len(of), name)
			continue
		}
		var open []string
		for _, r := range of[0].Spec.Ingress {
			for _, port := range r.Ports {
				open = append(open, port.Port.StrVal)
			}
		}
		for _, c := range pod.ports {
			if !slices.Contains(open, c.Name) && !slices.Contains(n.probed[name], c.Name) {
				t.Errorf("nobody may reach port %s of pod %s", c.Name, name)
			}
		}
	}
	for _, s := range n.services {
		for _, port := range s.Spec.Ports {
			served := false
			for name, pod := range n.pods {
				if pod.namespace != s.Namespace || !selects(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}, pod.labels) {
					continue
				}
				for _, c := range pod.ports {
					if c.Name != port.TargetPort.StrVal {
						continue
					}
					served = true
					if !n.reaches(outside, pod, c.ContainerPort, corev1.ProtocolTCP) {
						t.Errorf("service %s leads to port %d of %s, which the policies keep everybody from", s.Name, c.ContainerPort, name)
					}
				}
			}
			if !served {
				t.Errorf("service %s: port %s leads nowhere", s.Name, fmt.Sprint(port.Name))
			}
		}
	}
}
