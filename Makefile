# Everything that is built lands in bin/; what is worth keeping between runs (the
# test control plane's binaries) lands in the cache directory that `make help` names.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/nationtech/fleet/internal/version.Version=$(VERSION)
# The same for what is shipped and for tests, so that each package is compiled once.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath
GO_BUILD := go build -ldflags "$(LDFLAGS)"
BIN := $(CURDIR)/bin
FLEET_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fleet
export FLEET_CACHE

# What runs podmans is done by a target of the same name with "root-" before it, for
# which test/asroot.sh asks sudo when that is needed. It does so before anything is
# built, and passes on what was given to this make.
AS_ROOT = @test/asroot.sh $(MAKE) --no-print-directory root-$@ $(MAKEOVERRIDES) \
	$(if $(filter environment,$(origin FLEET_CACHE)),FLEET_CACHE=$(FLEET_CACHE))

# What is built under sudo is the user's all the same.
GIVE_BACK = @$(if $(SUDO_UID),chown -R $(SUDO_UID):$(SUDO_GID) $(BIN))

##@ Start here

.PHONY: demo root-demo
demo: ## Bring up a whole fleet, roll out changes with git push; KEEP=1 leaves it running
	$(AS_ROOT)
root-demo: deps build
	$(BIN)/demo up --bin $(BIN) --manifests manifests $(if $(KEEP),--keep)

.PHONY: demo-kvm root-demo-kvm
demo-kvm: ## Boot a virtual machine that joins a fleet, roll out to it with git push; KEEP=1 leaves it running
	$(AS_ROOT)
root-demo-kvm: deps deps-machines build
	$(BIN)/demo up --machine --bin $(BIN) --manifests manifests $(if $(KEEP),--keep)

.PHONY: demo-down root-demo-down
demo-down: ## Remove every trace of either demo
	$(AS_ROOT)
root-demo-down:
	@[ -x $(BIN)/demo ] || $(GO_BUILD) -o $(BIN)/ ./test/demo # after make clean
	$(GIVE_BACK)
	@$(BIN)/demo down

.PHONY: test root-test
test: ## Run every test; sets up all that it needs
	$(AS_ROOT)
root-test: deps deps-machines build lint verify root-test-unit test-tools test-cluster test-attack root-test-load root-test-e2e root-test-kvm

##@ Build

.PHONY: build
build: build-product build-test ## Build every binary into bin/

.PHONY: build-product
build-product: ## Build fleet-operator, fleet-agent and kubectl-fleet
	$(GO_BUILD) -o $(BIN)/ ./cmd/...
	install -m 0755 cmd/kubectl-fleet/kubectl_complete-fleet $(BIN)/

.PHONY: build-test
build-test: ## Build the demo, its workload, kubectl and the control plane that tests run on
	$(GO_BUILD) -o $(BIN)/ ./test/hello ./test/demo ./test/kubectl
	cd test/controlplane && go build -o $(BIN)/controlplane .
	$(BIN)/controlplane build
	$(GIVE_BACK)

.PHONY: deps
deps: ## Install the Debian packages that demo and tests need
	@test/deps.sh

.PHONY: deps-machines
deps-machines: ## Install the Debian packages that virtual machines need
	@test/deps.sh machines

##@ Test

.PHONY: test-unit root-test-unit
test-unit: ## Unit tests, and the kinds against a real kube-apiserver
	$(AS_ROOT)
root-test-unit:
	KUBEBUILDER_ASSETS="$$($(BIN)/controlplane assets)" go test -timeout 20m $$(go list ./... | grep -vE '/test/(attack|cluster|e2e|kvm|load)$$')

.PHONY: test-e2e root-test-e2e
test-e2e: ## From a Git push to containers, with everything on the way killed in between
	$(AS_ROOT)
root-test-e2e:
	go test -count=1 -timeout 20m -v ./test/e2e

.PHONY: test-kvm root-test-kvm
test-kvm: ## A virtual machine as a device, its power cut; virtual machines as what a device runs
	$(AS_ROOT)
root-test-kvm: deps deps-machines build
	go test -count=1 -timeout 30m -v ./test/kvm

.PHONY: test-attack
test-attack: build ## Attack a fleet as it is installed: by devices, strangers, thieves and the broker
	go test -count=1 -timeout 10m -v ./test/attack

.PHONY: test-cluster
test-cluster: build-test ## Kill servers of a NATS cluster in the middle of a rollout; devices behind a site's server
	KUBEBUILDER_ASSETS="$$($(BIN)/controlplane assets)" go test -count=1 -timeout 5m -v ./test/cluster

.PHONY: test-tools
test-tools: ## Tests of the test control plane, of what judges security findings, and of a release
	cd test/controlplane && go test -timeout 10m ./...
	cd test/findings && go test ./...
	cd test/plots && go test ./...
	cd test/release && go test -short ./...

.PHONY: test-release
test-release: ## Build the release for this platform twice, compare, and install plugin and agent from it
	cd test/release && go test -count=1 -timeout 25m -v ./...

.PHONY: test-load root-test-load
test-load: ## Load with 20 and with 2,000 devices, held to generous bounds
	$(AS_ROOT)
root-test-load: deps build
	go test -count=1 -timeout 15m -v ./test/load

.PHONY: load root-load
load: ## Load with DEVICES simulated devices (20) and DEPLOYMENTS Deployments (3); STORMS=1, JSON=FILE
	$(AS_ROOT)
root-load: deps build
	go build -o $(BIN)/ ./test/load
	$(GIVE_BACK)
	$(BIN)/load $(LOAD) $(if $(DEVICES),--devices $(DEVICES)) $(if $(DEPLOYMENTS),--deployments $(DEPLOYMENTS)) $(if $(STORMS),--storms) $(if $(JSON),--json $(JSON))
LOAD := --bin $(BIN) --manifests manifests

SIZES ?= 1000 10000 50000 100000
.PHONY: bench root-bench
bench: ## How cost grows with the fleet: load with each of SIZES, and docs/plots; hours, and 24 GiB
	$(AS_ROOT)
root-bench: deps build
	go build -o $(BIN)/ ./test/load
	$(GIVE_BACK)
	for devices in $(SIZES); do $(BIN)/load $(LOAD) --storms --devices $$devices --json $(BIN)/load-$$devices.json || exit; done
	cd test/plots && go run . ../../docs/plots $(foreach devices,$(SIZES),$(BIN)/load-$(devices).json)

.PHONY: bench-join
bench-join: build-test ## Have ten thousand devices join with one token, and approve them in bulk
	KUBEBUILDER_ASSETS="$$($(BIN)/controlplane assets)" FLEET_BULK_JOIN_DEVICES=10000 go test -count=1 -timeout 60m -v -run TestManyDevicesJoinAndAreApprovedInBulk ./operator

##@ Release

.PHONY: release-snapshot
release-snapshot: ## Build all that a release has into dist/, and check it; nothing is published
	test/release/goreleaser.sh release --snapshot --clean
	cd test/release && go run . $(CURDIR)/dist

##@ Keep in shape

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt-clean, run make fmt:"; echo "$$out"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	@for module in test/controlplane test/findings test/plots test/release; do (set -x; cd $$module && go vet ./... && "$$(cd $(CURDIR) && go tool -n staticcheck)" ./...) || exit; done

.PHONY: fmt
fmt: ## Format the Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: generate
generate: ## Make every generated file anew
	go tool controller-gen object paths=./api/...
	go tool controller-gen crd paths=./api/v1alpha1 output:crd:dir=manifests/crd
	go tool controller-gen rbac:roleName=fleet-operator paths=./operator/deployment paths=./operator/device paths=./operator/join output:rbac:dir=manifests/rbac
	go tool openapi-gen --output-dir operator/liveapi/openapi --output-pkg github.com/nationtech/fleet/operator/liveapi/openapi \
	  --output-file zz_generated.openapi.go --output-model-name-file zz_generated.model_name.go --report-filename /dev/null --go-header-file /dev/null \
	  ./api/live/v1alpha1 k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/version
	go run ./gitops/internal/schemagen

.PHONY: record
record: ## Write docs/guides/session.md from a running demo; needs tmux
	test/record.sh docs/guides/session.md

.PHONY: verify
verify: security ## Fail when a generated file is stale, and at security findings
	@test/verify.sh

.PHONY: security
security: ## Fail at a finding of gosec or govulncheck that docs/security-findings.md does not argue
	@test/security.sh

.PHONY: clean
clean: ## Remove bin/ and dist/ (the cache stays; remove it by hand)
	rm -rf $(BIN) dist

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*##"; printf "usage: make TARGET\n"} \
	  /^[a-zA-Z0-9_-]+:.*?##/ {printf "  %-18s %s\n", $$1, $$2} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)
	@printf '\ncache: %s\n' "$(FLEET_CACHE)"
