#!/usr/bin/env bash
# Runs goreleaser with what it calls on the PATH, in the versions that go.mod beside this
# pins; where it is called, and with the arguments that it is given.
set -euo pipefail

tools=''
for tool in goreleaser cyclonedx-gomod; do
  path=$(cd "$(dirname "$0")" && go tool -n "$tool")
  tools+=$(dirname "$path"):
done
PATH=$tools$PATH exec goreleaser "$@"
