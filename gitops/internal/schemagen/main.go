// Command schemagen writes what kustomize has to know about the fleet's kinds,
// and the field tables of their spec pages, from the CustomResourceDefinitions.
//
// Usage, in the repository's root: go run ./gitops/internal/schemagen
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nationtech/fleet/manifests"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	crds, err := manifests.CRDs()
	if err != nil {
		return err
	}
	component := filepath.Join(root, "gitops", "scaffold", "components", "fleet")
	openAPI, err := kustomizeOpenAPI(crds)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(component, "openapi.json"), openAPI, 0o644); err != nil {
		return err
	}
	configuration, err := kustomizeConfiguration(crds)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(component, "names.yaml"), configuration, 0o644); err != nil {
		return err
	}
	for _, crd := range crds {
		page := filepath.Join(root, "docs", "spec", crd.Spec.Names.Singular+".md")
		if err := updateFieldTable(page, crd); err != nil {
			return err
		}
	}
	return nil
}
