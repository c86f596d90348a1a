package approval

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/nationtech/fleet/api/v1alpha1"
)

const oneKey, anotherKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", "UBLJHT7M2HG3WVUJFNBLBGLK6HMFZM2UWYIQ3PZMRZLLWQTTPW6BK73B"

func device(name string) *v1alpha1.Device {
	return &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: name, UID: "1"}, Spec: v1alpha1.DeviceSpec{PublicKey: oneKey}}
}

// racing is a cluster with a device, in which somebody is faster than the first change.
func racing(t *testing.T, faster func(*v1alpha1.Device)) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var once atomic.Bool
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(device("till-1")).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			if once.CompareAndSwap(false, true) {
				d := &v1alpha1.Device{}
				if err := c.Get(ctx, client.ObjectKeyFromObject(o), d); err != nil {
					return err
				}
				faster(d)
				if err := c.Update(ctx, d); err != nil {
					return err
				}
			}
			return c.Patch(ctx, o, p, options...)
		},
	}).Build()
}

func TestSomebodyIsFaster(t *testing.T) {
	for name, c := range map[string]struct {
		faster  func(*v1alpha1.Device)
		want    Outcome
		says    string
		approve *bool
	}{
		"a change of something else is no matter":       {func(d *v1alpha1.Device) { d.Spec.Cordoned = true }, Changed, "", new(true)},
		"another key is not the one that was looked at": {func(d *v1alpha1.Device) { d.Spec.PublicKey = anotherKey }, Failed, "got another key", nil},
		"a refusal by somebody else stands":             {func(d *v1alpha1.Device) { d.Spec.Approved = new(false) }, Skipped, "is shut out", new(false)},
	} {
		t.Run(name, func(t *testing.T) {
			client := racing(t, c.faster)
			d := &v1alpha1.Device{}
			if err := client.Get(t.Context(), keyOf("till-1"), d); err != nil {
				t.Fatal(err)
			}
			one := &task{key: keyOf("till-1"), before: d}
			(&changer{action: approving(), client: client, dryRun: cmdutil.DryRunNone}).run(t.Context(), []*task{one})
			if one.outcome != c.want || !strings.Contains(one.why, c.says) {
				t.Errorf("%s: %s (%v)", one.outcome, one.why, one.err)
			}
			if err := client.Get(t.Context(), keyOf("till-1"), d); err != nil {
				t.Fatal(err)
			}
			if got := d.Spec.Approved; (got == nil) != (c.approve == nil) || got != nil && *got != *c.approve {
				t.Errorf("spec.approved is %v", got)
			}
		})
	}
}

func keyOf(name string) client.ObjectKey { return client.ObjectKey{Namespace: "shops", Name: name} }

// When the command is interrupted, what was not reached is left as it is, and said.
func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var tasks []*task
	for range 1000 {
		tasks = append(tasks, &task{key: keyOf("till-1"), before: device("till-1")})
	}
	c := &changer{action: approving(), client: racing(t, func(*v1alpha1.Device) { cancel() }), dryRun: cmdutil.DryRunNone}
	c.run(ctx, tasks)
	last := tasks[len(tasks)-1]
	if last.outcome != Failed || !strings.Contains(last.why, "not reached") || !errors.Is(last.err, context.Canceled) {
		t.Errorf("the last: %s %s %v", last.outcome, last.why, last.err)
	}
}

func TestJudge(t *testing.T) {
	yes, no := new(true), new(false)
	for name, c := range map[string]struct {
		action   action
		approved *bool
		named    bool
		want     Outcome
	}{
		"approve who waits":                        {approving(), nil, false, Changed},
		"approve who takes part":                   {approving(), yes, true, Unchanged},
		"approve who is shut out and named":        {approving(), no, true, Changed},
		"a selector approves nobody who is out":    {approving(), no, false, Skipped},
		"deny who waits":                           {denying(), nil, false, Changed},
		"deny who takes part":                      {denying(), yes, true, Failed},
		"a selector denies nobody who takes part":  {denying(), yes, false, Skipped},
		"deny who is shut out":                     {denying(), no, true, Unchanged},
		"revoke who takes part":                    {revoking(), yes, false, Changed},
		"revoke who waits":                         {revoking(), nil, true, Failed},
		"a selector revokes nobody who waits":      {revoking(), nil, false, Skipped},
		"revoke who is shut out":                   {revoking(), no, false, Unchanged},
		"reset the key of who has one, however in": {resettingKey(), no, true, Changed},
	} {
		t.Run(name, func(t *testing.T) {
			d := device("till-1")
			d.Spec.Approved = c.approved
			if got := c.action.judge(d, c.named); got.outcome != c.want || (got.why == "") != (got.outcome == Changed) {
				t.Errorf("%+v", got)
			}
		})
	}
}
