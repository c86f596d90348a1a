package bus

import (
	"errors"
	"fmt"
)

// ClusterPort is where the servers of a cluster listen for one another.
const ClusterPort = 6222

// ServerCluster is several servers that are one: each has all the accounts and may have a
// replica of each stream.
type ServerCluster struct {
	// Hosts are where the servers find one another at ClusterPort, each of them. Nobody
	// else may join: a server of the cluster reads and writes everything. So each shows
	// a certificate with one of these names, and they have to be DNS names.
	Hosts []string
}

type (
	cluster struct {
		Name   string   `json:"name"`
		Port   int      `json:"port"`
		Routes []string `json:"routes"`
		// NoAdvertise keeps the servers' own addresses from the devices. These are inside
		// the Kubernetes cluster, and a device would try them one after the other before
		// the one that it can reach.
		NoAdvertise bool       `json:"no_advertise"`
		TLS         clusterTLS `json:"tls"`
	}
	clusterTLS struct {
		serverTLS
		CAFile string `json:"ca_file"`
		// VerifyNames has a server that connects show a certificate for one of the routes'
		// names. That the authority has signed it is not enough: it signs others too.
		VerifyNames bool `json:"verify_cert_and_check_known_urls"`
	}
)

func (c *ServerCluster) section(tls *ServerTLS) (*cluster, error) {
	if tls == nil || tls.CAFile == "" {
		return nil, errors.New("the servers of a cluster need certificates, and the authorities to check one another's against")
	}
	out := &cluster{Name: "fleet", Port: ClusterPort, NoAdvertise: true, TLS: clusterTLS{serverTLS: newServerTLS(tls), CAFile: tls.CAFile, VerifyNames: true}}
	for _, host := range c.Hosts {
		out.Routes = append(out.Routes, fmt.Sprintf("tls://%s:%d", host, ClusterPort))
	}
	return out, nil
}
