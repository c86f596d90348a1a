package liveapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	live "github.com/nationtech/fleet/api/live/v1alpha1"
)

// retryAfter is how many seconds somebody should wait who comes before the view is
// complete.
const retryAfter = 1

// kind is what tells apart the kinds that are served.
type kind[T any] struct {
	resource, singular, short string
	newObject, newList        func() runtime.Object
	// object makes the object of a row with its resource version.
	object func(r *row[T], version string) runtime.Object
	// list makes a list of rows.
	list func(rows []*row[T], meta metav1.ListMeta, version func(uint64) string) runtime.Object
	// labels and fields are what selectors look at.
	labels  func(*T) labels.Set
	fields  func(*T) fields.Set
	columns []metav1.TableColumnDefinition
	// cells of a table.
	cells func(runtime.Object) []any
}

// storage serves one kind from a table.
type storage[T any] struct {
	kind[T]
	table *table[T]
	mark  uint64
	// ready reports whether the view is complete.
	ready func() bool
	// stopping is closed when the server stops.
	stopping <-chan struct{}
}

var (
	_ rest.Storage              = (*storage[heartbeat])(nil)
	_ rest.Scoper               = (*storage[heartbeat])(nil)
	_ rest.Getter               = (*storage[heartbeat])(nil)
	_ rest.Lister               = (*storage[heartbeat])(nil)
	_ rest.Watcher              = (*storage[heartbeat])(nil)
	_ rest.SingularNameProvider = (*storage[heartbeat])(nil)
	_ rest.ShortNamesProvider   = (*storage[heartbeat])(nil)
)

// New makes an empty object.
func (s *storage[T]) New() runtime.Object { return s.newObject() }

// NewList makes an empty list.
func (s *storage[T]) NewList() runtime.Object { return s.newList() }

// Destroy has nothing to do.
func (s *storage[T]) Destroy() {}

// NamespaceScoped says that every kind is.
func (s *storage[T]) NamespaceScoped() bool { return true }

// GetSingularName is for kubectl.
func (s *storage[T]) GetSingularName() string { return s.singular }

// ShortNames are for kubectl.
func (s *storage[T]) ShortNames() []string { return []string{s.short} }

// unready is what is answered while the view is not complete: an empty list would
// pass for an empty fleet.
func unready() error {
	err := apierrors.NewServiceUnavailable("the fleet is not in view yet: the operator is still reading the buckets")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
	return err
}

// Get returns one object.
func (s *storage[T]) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	r, err := s.row(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.object(r, s.format(r.version)), nil
}

// row finds the row of an object.
func (s *storage[T]) row(ctx context.Context, name string) (*row[T], error) {
	if !s.ready() {
		return nil, unready()
	}
	r := s.table.get(key{genericapirequest.NamespaceValue(ctx), name})
	if r == nil {
		return nil, apierrors.NewNotFound(live.GroupVersion.WithResource(s.resource).GroupResource(), name)
	}
	return r, nil
}

// List returns the objects that are wanted, a page of them when there is a limit.
// Pages are of the moment that they are asked for; the list's version is of the
// first page, so that a watch from it tells of what changed in between.
func (s *storage[T]) List(ctx context.Context, o *metainternalversion.ListOptions) (runtime.Object, error) {
	if !s.ready() {
		return nil, unready()
	}
	if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
		return nil, apierrors.NewResourceExpired("only the present can be listed")
	}
	var after token
	if o.Continue != "" {
		var err error
		if after, err = s.parseToken(o.Continue); err != nil {
			return nil, err
		}
	}
	rows, version, more, left := s.table.page(genericapirequest.NamespaceValue(ctx), key{after.Namespace, after.Name}, int(o.Limit), s.wanted(o))
	if o.Continue != "" {
		version = after.Version
	}
	meta := metav1.ListMeta{ResourceVersion: s.format(version)}
	if more {
		last := rows[len(rows)-1].key
		meta.Continue = s.formatToken(token{version, last.namespace, last.name})
		if n := int64(left); selectsAll(o) && genericapirequest.NamespaceValue(ctx) == "" {
			meta.RemainingItemCount = &n
		}
	}
	return s.list(rows, meta, s.format), nil
}

func selectsAll(o *metainternalversion.ListOptions) bool {
	return (o.LabelSelector == nil || o.LabelSelector.Empty()) && (o.FieldSelector == nil || o.FieldSelector.Empty())
}

// wanted reports whether an object is selected.
func (s *storage[T]) wanted(o *metainternalversion.ListOptions) func(*row[T]) bool {
	if selectsAll(o) {
		return func(*row[T]) bool { return true }
	}
	byLabels, byFields := o.LabelSelector, o.FieldSelector
	if byLabels == nil {
		byLabels = labels.Everything()
	}
	if byFields == nil {
		byFields = fields.Everything()
	}
	return func(r *row[T]) bool {
		if !byLabels.Matches(s.labels(&r.value)) {
			return false
		}
		if byFields.Empty() {
			return true
		}
		set := s.kind.fields(&r.value)
		set["metadata.name"], set["metadata.namespace"] = r.name, r.namespace
		return byFields.Matches(set)
	}
}

func (s *storage[T]) format(version uint64) string {
	return strconv.FormatUint(version<<markBits|s.mark, 10)
}

// errForeign tells that a version is of another run or another replica.
var errForeign = errors.New("the resource version is not of this run of this replica")

func (s *storage[T]) parse(version string) (uint64, error) {
	v, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a number", version))
	}
	if v&markMask != s.mark {
		return 0, errForeign
	}
	return v >> markBits, nil
}

// token is where the next page begins.
type token struct {
	Version   uint64 `json:"v"`
	Namespace string `json:"ns"`
	Name      string `json:"n"`
}

func (s *storage[T]) formatToken(t token) string {
	t.Version = t.Version<<markBits | s.mark
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and a number are always encodable
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func (s *storage[T]) parseToken(text string) (token, error) {
	var t token
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil {
		return t, apierrors.NewBadRequest("the continue token can't be read; list from the beginning")
	}
	if t.Version&markMask != s.mark {
		return t, apierrors.NewResourceExpired("the continue token is of another run or another replica of the operator; list from the beginning")
	}
	t.Version >>= markBits
	return t, nil
}
