package devices

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleet/plugin/cli"
)

// follow prints the devices that there are and then each change. When the API
// server has lost the history it reads anew and prints only what is different.
func (p *presenter) follow(ctx context.Context, cluster *cli.Cluster, options client.ListOptions) error {
	known := map[types.UID]string{}
	first := true
	lost := false
	follower := &cli.Follower{
		Client:  cluster.Client,
		List:    newList(),
		Options: options,
		Listed: func(objects []client.Object) error {
			var news []item
			for _, o := range objects {
				if known[o.GetUID()] == o.GetResourceVersion() {
					continue
				}
				known[o.GetUID()] = o.GetResourceVersion()
				i, err := p.item(o)
				if err != nil {
					return err
				}
				if healthFilter(p.options.health).match(i.device) {
					news = append(news, i)
				}
			}
			if len(news) == 0 {
				if first && p.options.human() {
					p.sayNone()
				}
				first = false
				return nil
			}
			first = false
			return p.events(watch.Added, news)
		},
		Changed: func(event watch.EventType, o client.Object) error {
			if event == watch.Deleted {
				delete(known, o.GetUID())
			} else {
				known[o.GetUID()] = o.GetResourceVersion()
			}
			i, err := p.item(o)
			if err != nil {
				return err
			}
			if !healthFilter(p.options.health).match(i.device) {
				return nil
			}
			return p.events(event, []item{i})
		},
		Connection: func(err error) {
			if lost == (err != nil) {
				return
			}
			if lost = err != nil; lost {
				fmt.Fprintf(p.env.Streams.ErrOut, "connection lost, trying again: %v\n", err)
			} else {
				fmt.Fprintln(p.env.Streams.ErrOut, "connection is back")
			}
		},
	}
	if err := follower.Run(ctx); err != nil {
		return fmt.Errorf("watch devices in %s: %w", p.scope, err)
	}
	return nil
}

// events prints devices that changed in the same way.
func (p *presenter) events(event watch.EventType, items []item) error {
	if p.options.human() {
		return p.rows(items, string(event))
	}
	for _, i := range items {
		var object runtime.Object = i.object
		if p.options.watchEvents {
			object = &metav1.WatchEvent{Type: string(event), Object: runtime.RawExtension{Object: i.object}}
		}
		if err := p.printer.PrintObj(object, p.env.Streams.Out); err != nil {
			return err
		}
	}
	return nil
}
