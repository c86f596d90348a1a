package gitops

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// ImageChange is an entry of images: that becomes another.
type ImageChange struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// imageEntry is an entry of images: as kustomize has it.
type imageEntry struct {
	Name      string `yaml:"name"`
	NewName   string `yaml:"newName"`
	NewTag    string `yaml:"newTag"`
	Digest    string `yaml:"digest"`
	TagSuffix string `yaml:"tagSuffix"`
}

// fields are those of an entry besides the name, in the order in which they are
// written.
func (e imageEntry) fields() [][2]string {
	return [][2]string{{"newName", e.NewName}, {"newTag", e.NewTag}, {"digest", e.Digest}, {"tagSuffix", e.TagSuffix}}
}

// String is what the image becomes.
func (e imageEntry) String() string {
	out := first(e.NewName, e.Name)
	if e.NewTag != "" {
		out += ":" + e.NewTag
	}
	out += e.TagSuffix
	if e.Digest != "" {
		out += "@" + e.Digest
	}
	return out
}

// version is the tag, or the digest where there is none, as a commit's subject has it.
func (c ImageChange) version() string {
	name, digest, pinned := strings.Cut(c.New, "@")
	if slash := strings.LastIndex(name, "/"); strings.LastIndex(name, ":") > slash {
		return name[strings.LastIndex(name, ":")+1:]
	}
	if pinned && len(digest) > 19 {
		return digest[:19]
	}
	return digest
}

// images has TO's kustomization name the images that FROM's does.
func (p *promoting) images() ([]ImageChange, error) {
	wanted, err := p.tree.imageEntries(p.From)
	if err != nil {
		return nil, err
	}
	have, err := p.tree.imageEntries(p.To)
	if err != nil {
		return nil, err
	}
	if p.Deployment != "" {
		runs, err := p.runs()
		if err != nil {
			return nil, err
		}
		wanted = slices.DeleteFunc(wanted, func(e imageEntry) bool { return !runs[e.Name] })
	}
	changes := []ImageChange{}
	var changed []imageEntry
	for _, entry := range wanted {
		old := ""
		if i := slices.IndexFunc(have, func(e imageEntry) bool { return e.Name == entry.Name }); i >= 0 {
			if have[i] == entry {
				continue
			}
			old = have[i].String()
		}
		changed = append(changed, entry)
		changes = append(changes, ImageChange{Name: entry.Name, Old: old, New: entry.String()})
	}
	if len(changed) == 0 {
		return changes, nil
	}
	return changes, p.editKustomization(func(root *yaml.RNode) error {
		for _, entry := range changed {
			if err := setImage(root, entry); err != nil {
				return err
			}
		}
		return nil
	})
}

// imageEntries are what an overlay's kustomization has under images:.
func (t *Tree) imageEntries(overlay Overlay) ([]imageEntry, error) {
	file := t.kustomizationFile(overlay.Path)
	data, err := t.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return readImages(file, data)
}

func readImages(file string, data []byte) ([]imageEntry, error) {
	var kustomization struct {
		Images []imageEntry `yaml:"images"`
	}
	if err := yaml.Unmarshal(data, &kustomization); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return kustomization.Images, nil
}

// runs are the names of the images that the chosen Deployment names, before images:
// of FROM makes others of them.
func (p *promoting) runs() (map[string]bool, error) {
	file := p.tree.kustomizationFile(p.From.Path)
	data, err := p.tree.ReadFile(file)
	if err != nil {
		return nil, err
	}
	plain, err := editYAML(data, func(root *yaml.RNode) error { return root.PipeE(yaml.Clear("images")) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	rendered, err := Render(p.tree.With(map[string][]byte{file: plain}), p.From)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, leaf := range leaves(nil, rendered.deployments()[p.Deployment].Content) {
		if leaf[len(leaf)-1].name == "image" {
			out[imageName(fmt.Sprint(leaf[len(leaf)-1].value))] = true
		}
	}
	return out, nil
}

// imageName is an image without its tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		return image[:colon]
	}
	return image
}

// leaves are the ways to all values in a value; the last step has the value itself.
func leaves(path []step, value any) [][]step {
	var out [][]step
	switch value := value.(type) {
	case map[string]any:
		for _, name := range union(value, nil) {
			out = append(out, leaves(append(slices.Clone(path), step{name: name}), value[name])...)
		}
		return out
	case []any:
		key := first(listKey(path), "name")
		for i, item := range value {
			element, _ := item.(map[string]any)
			named := step{key: key, value: element[key]}
			if element[key] == nil {
				named.value = i
			}
			if element == nil {
				// The list's own field is where a value is.
				out = append(out, append(slices.Clone(path), step{key: key, value: item}))
				continue
			}
			out = append(out, leaves(append(slices.Clone(path), named), item)...)
		}
		return out
	}
	if len(path) == 0 {
		return nil
	}
	path = slices.Clone(path)
	path[len(path)-1].value = value
	return [][]step{path}
}

// setImage sets an entry of images:, or adds it.
func setImage(root *yaml.RNode, entry imageEntry) error {
	list, err := root.Pipe(yaml.LookupCreate(yaml.SequenceNode, "images"))
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	// An empty list is written as []; with something in it, as the others are.
	if len(list.Content()) == 0 {
		list.YNode().Style = 0
	}
	element, err := list.Pipe(yaml.MatchElement("name", entry.Name))
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	if element == nil {
		element = yaml.NewMapRNode(nil)
		if err := element.PipeE(yaml.SetField("name", yaml.NewStringRNode(entry.Name))); err != nil {
			return fmt.Errorf("images: %w", err)
		}
		if err := list.PipeE(yaml.Append(element.YNode())); err != nil {
			return fmt.Errorf("images: %w", err)
		}
	}
	for _, field := range entry.fields() {
		if field[1] == "" {
			err = element.PipeE(yaml.Clear(field[0]))
		} else {
			err = setText(element, field[0], field[1])
		}
		if err != nil {
			return fmt.Errorf("images: %s: %w", entry.Name, err)
		}
	}
	return nil
}

// setText sets a field to a string, and keeps the comment behind the old value.
func setText(element *yaml.RNode, name, text string) error {
	value := yaml.NewStringRNode(text)
	if old := element.Field(name); !old.IsNilOrEmpty() {
		if old.Value.YNode().Value == text {
			return nil
		}
		value.YNode().LineComment = old.Value.YNode().LineComment
		if style := old.Value.YNode().Style; style == yaml.DoubleQuotedStyle || style == yaml.SingleQuotedStyle {
			value.YNode().Style = style
		}
	}
	return element.PipeE(yaml.SetField(name, value))
}

// editKustomization changes TO's kustomization file.
func (p *promoting) editKustomization(edit func(*yaml.RNode) error) error {
	file := p.tree.kustomizationFile(p.To.Path)
	data, changed := p.future[file]
	if !changed {
		var err error
		if data, err = p.tree.ReadFile(file); err != nil {
			return err
		}
	}
	edited, err := editYAML(data, edit)
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	p.future[file] = edited
	return nil
}
