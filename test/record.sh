#!/usr/bin/env bash
# Writes docs/guides/session.md: what `kubectl fleet` shows in a terminal, from a fleet
# that `make demo KEEP=1` left running.
#
#   test/record.sh OUTPUT
set -euo pipefail

output=$1
bin=$(cd "$(dirname "$0")/../bin" && pwd)
demo=${FLEET_DEMO:-/tmp/fleet-demo}
export KUBECONFIG=$demo/controlplane/kubeconfig PATH=$bin:$PATH TERM=xterm-256color NO_COLOR=1 LANG=C.UTF-8
columns=100 rows=26

if [ ! -e "$KUBECONFIG" ]; then
  echo "no demo is running in $demo: make demo KEEP=1" >&2
  exit 1
fi
kubectl config set-context --current --namespace fleet-demo >/dev/null
tmux=(tmux -L fleet-record -f /dev/null)
trap '"${tmux[@]}" kill-server 2>/dev/null || true' EXIT
"${tmux[@]}" new-session -d -s main -x $columns -y $rows "env PS1='\$ ' bash --norc --noprofile"

screen() { "${tmux[@]}" capture-pane -p -t main; }

# await REGEXP: until the screen has it.
await() {
  for _ in $(seq 300); do
    if screen | grep -Eq -- "$1"; then return; fi
    sleep 0.1
  done
  echo "the screen does not show $1:" >&2
  screen >&2
  exit 1
}

type() { "${tmux[@]}" send-keys -t main "$@"; }

# show REGEXP: adds the screen to the document once it has that.
show() {
  await "$1"
  { echo; echo '```'; screen | sed -e 's/[[:space:]]*$//' -e :a -e '/^\n*$/{$d;N;ba' -e '}'; echo '```'; } >>"$output.new"
}

# shell COMMAND: types a command on an empty screen.
shell() {
  type C-c
  type C-l
  await '^\$ *$'
  type "$1" Enter
}

say() { printf '\n%s\n' "$*" >>"$output.new"; }

cat >"$output.new" <<'EOF'
# A session

What `kubectl fleet` shows, taken from a terminal of 100 columns by `make record`: the
fleet of `make demo`, three devices with a podman each.
EOF

say '## status'
shell 'kubectl fleet status'
show 'ready +[^ ]* *[0-9]* not ready|[0-9]+ ready'

say '## heartbeats'
say 'It goes on until Ctrl-C; the ages tick, and what is late comes first. An agent was stopped here.'
agent=$(pgrep -f -x "$demo/fleet-agent run" | tail -n 1)
kill -STOP "$agent"
shell 'kubectl fleet heartbeats --watch'
show 'False|late'
kill -CONT "$agent"
await 'shop-3 +True|True.*shop-3|3 ready|3 of 3'

say '## rollout status'
say 'A change that was just pushed, to one device first; it goes on until the end, with exit code 0.'
overlay=$demo/repository/overlays/field/kustomization.yaml
next=v1
if grep -q 'newTag: v1$' "$overlay"; then next=v2; fi
sed -i "s/newTag: .*/newTag: $next/" "$overlay"
if ! grep -q 'name: canary' "$demo/repository/base/hello.yaml"; then
  sed -i 's/^  rollout:$/&\n    waves:\n    - name: canary\n      limit: 1\n      soak: 8s/' "$demo/repository/base/hello.yaml"
fi
git -C "$demo/repository" commit --quiet --all --message "Roll out hello $next"
generation=$(kubectl get deployments.fleet.nationtech.io hello -o 'jsonpath={.metadata.generation}')
git -C "$demo/repository" push --quiet
kubectl wait deployments.fleet.nationtech.io hello --for "jsonpath={.metadata.generation}=$((generation + 1))" --timeout 30s >/dev/null
shell 'kubectl fleet rollout status hello --watch'
show 'soak'
show '^\$ *$'

say '## logs, exec, ping, restart'
shell 'kubectl fleet ping shop-1 shop-2 shop-3'
show 'shop-3: '
shell 'kubectl fleet logs shop-1.hello --follow --tail 3'
await 'listens on|GET'
host=$(sed -n 's/^hostIP: //p' "$demo/shop-1/config.yaml")
for path in coffee tea; do curl --silent --output /dev/null "http://$host:8080/$path" || true; done
show 'tea|listens'
shell 'kubectl fleet exec -it shop-1.hello -- /hello talk'
await 'on shop-1>'
type 'size' Enter
await '<nil>'
type 'exit 0' Enter
show '^\$ *$'
shell 'kubectl fleet restart shop-1.hello'
show 'restarted'

say '## top'
shell 'kubectl fleet top'
await '✔ live'
show 'shop-3'
type Tab
show 'shop-3.hello'
type q

say '## describe device'
rows=60
"${tmux[@]}" resize-window -t main -y $rows
shell 'kubectl fleet describe device shop-1'
show 'Events'
mv "$output.new" "$output"
