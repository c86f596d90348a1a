package env

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/nationtech/fleet/gitops"
)

// Scaffold makes the fleet's Git repository with the image, and returns before
// anything is pushed.
func (f *Fleet) Scaffold(ctx context.Context, image string) error {
	url, err := f.ControlPlane.CreateGit(ctx, RepositoryName)
	if err != nil {
		return err
	}
	f.Repository.URL = url
	args := []string{"repo", "init", f.Repository.Dir, "--name", RepositoryName, "--namespace", Namespace, "--url", url, "--image", image}
	lab := false
	for _, d := range f.Devices {
		args = append(args, "--device", d.Overlay+"/"+d.ID)
		lab = lab || d.Overlay == gitops.LabOverlay
	}
	for _, m := range f.Machines {
		args = append(args, "--device", gitops.FieldOverlay+"/"+m.ID)
	}
	if _, err := f.Kubectl(ctx, args...); err != nil {
		return err
	}
	if lab {
		if err := f.Repository.Edit("clusters/"+RepositoryName+"/kustomization.yaml", "# - lab.yaml", "- lab.yaml"); err != nil {
			return err
		}
	}
	if err := f.ChoosePorts(f.Repository.Dir); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"}, {"remote", "add", "origin", url},
		// In the clone, for a person who commits in it and has never used git here.
		{"config", "user.name", "Platform Engineer"}, {"config", "user.email", "platform@example.com"},
	} {
		if _, err := f.Repository.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// ChoosePorts has what repo init has written in a folder take ports that are free here:
// the usual ones may be taken.
func (f *Fleet) ChoosePorts(dir string) error {
	r := &Repository{Dir: dir}
	for file, port := range map[string][2]int{"base/hello.yaml": {8080, f.addresses.Hello}, "base/signage.yaml": {8081, f.addresses.Signage}} {
		if err := r.Edit(file, fmt.Sprintf("hostPort: %d\n", port[0]), fmt.Sprintf("hostPort: %d\n", port[1])); err != nil {
			return err
		}
	}
	return nil
}

// Sync has Flux sync the repository from now on.
func (f *Fleet) Sync(ctx context.Context) error {
	return applyDir(ctx, f.Client, filepath.Join(f.Repository.Dir, "clusters", RepositoryName))
}
