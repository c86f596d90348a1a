package gitops

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/nationtech/fleet/api/v1alpha1"
)

// promotedHeader begins a file that Promote writes.
const promotedHeader = `# Written by kubectl fleet repo promote: what this overlay has taken over from another
# and its base does not have. The next promotion is merged into it.
`

// patch brings fields of a Deployment into the patch that promotions write into TO's
// folder: one file for each Deployment, whatever number of promotions it is from.
func (p *promoting) patch(name string, object Object, chosen []difference) error {
	own, err := p.ownName(name)
	if err != nil {
		return err
	}
	base := "promoted-" + name + ".yaml"
	file := path.Join(p.To.Path, base)
	data := []byte(promotedHeader + "apiVersion: " + object.meta().GetAPIVersion() + "\nkind: " + v1alpha1.DeploymentKind + "\nmetadata:\n  name: " + own + "\n")
	if _, exists := p.tree.files[file]; exists {
		if data, err = p.tree.ReadFile(file); err != nil {
			return err
		}
	}
	p.future[file], err = editYAML(data, func(root *yaml.RNode) error {
		for _, d := range chosen {
			if err := setInPatch(root.YNode(), d); err != nil {
				return fmt.Errorf("%s: %w", d, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	return p.editKustomization(func(root *yaml.RNode) error { return listPatch(root, base, own) })
}

// ownName is a Deployment's name before TO's kustomization has put something before
// and behind it.
func (p *promoting) ownName(name string) (string, error) {
	file := p.tree.kustomizationFile(p.To.Path)
	data, err := p.tree.ReadFile(file)
	if err != nil {
		return "", err
	}
	var kustomization struct {
		NamePrefix string `yaml:"namePrefix"`
		NameSuffix string `yaml:"nameSuffix"`
	}
	if err := yaml.Unmarshal(data, &kustomization); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(name, kustomization.NamePrefix), kustomization.NameSuffix), nil
}

// listPatch has a kustomization apply the patch, after all others.
func listPatch(root *yaml.RNode, file, name string) error {
	list, err := root.Pipe(yaml.LookupCreate(yaml.SequenceNode, "patches"))
	if err != nil {
		return fmt.Errorf("patches: %w", err)
	}
	listed, err := list.Pipe(yaml.MatchElement("path", file))
	if err != nil {
		return fmt.Errorf("patches: %w", err)
	}
	if listed != nil {
		return nil
	}
	if len(list.Content()) == 0 {
		list.YNode().Style = 0
	}
	entry, err := yaml.Parse(fmt.Sprintf("path: %s\ntarget:\n  group: %s\n  kind: %s\n  name: %s\n", file, v1alpha1.GroupVersion.Group, v1alpha1.DeploymentKind, name))
	if err != nil {
		return fmt.Errorf("patches: %w", err)
	}
	return list.PipeE(yaml.Append(entry.YNode()))
}

// setInPatch has a strategic merge patch make a field what it is to be.
// https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
func setInPatch(node *yaml.Node, d difference) error {
	if node.Kind == yaml.DocumentNode {
		node = node.Content[0]
	}
	for i, s := range d.path {
		last := i == len(d.path)-1
		if s.key == "" && last {
			value, err := nodeOf(d.new)
			if err != nil {
				return err
			}
			setChild(node, s.name, value)
			return nil
		}
		if s.key == "" {
			kind := yaml.MappingNode
			if d.path[i+1].key != "" {
				kind = yaml.SequenceNode
			}
			_, next := child(node, s.name)
			// A null that an earlier promotion removed it with makes place.
			if next == nil || next.Kind != kind {
				next = &yaml.Node{Kind: kind}
				setChild(node, s.name, next)
			}
			node = next
			continue
		}
		at := slices.IndexFunc(node.Content, func(element *yaml.Node) bool {
			_, value := child(element, s.key)
			return value != nil && value.Value == fmt.Sprint(s.value)
		})
		if last {
			return setElement(node, at, s, d.new)
		}
		if at < 0 {
			element, err := nodeOf(map[string]any{s.key: s.value})
			if err != nil {
				return err
			}
			node.Content = append(node.Content, element)
			at = len(node.Content) - 1
		}
		node = node.Content[at]
		// It is no longer one that goes, or one that replaces all there is.
		removeChild(node, "$patch")
	}
	return nil
}

func setElement(list *yaml.Node, at int, s step, value any) error {
	if value == nil {
		value = map[string]any{"$patch": "delete", s.key: s.value}
	}
	element, err := nodeOf(value)
	if err != nil {
		return err
	}
	if at >= 0 {
		list.Content[at] = element
		return nil
	}
	list.Content = append(list.Content, element)
	return nil
}

// nodeOf is a value as YAML.
func nodeOf(value any) (*yaml.Node, error) {
	text, err := yaml.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	node, err := yaml.Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return node.YNode(), nil
}

func setChild(node *yaml.Node, name string, value *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			node.Content[i+1] = value
			return
		}
	}
	node.Content = append(node.Content, yaml.NewStringRNode(name).YNode(), value)
}

func removeChild(node *yaml.Node, name string) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			node.Content = slices.Delete(node.Content, i, i+2)
			return
		}
	}
}
