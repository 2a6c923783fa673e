# shellcheck shell=bash
# nodes: what only an administrator may say of Nodes (labels, taints), the secrets rewritten after
# a new encryption key, and the wait until all nodes are Ready.
# Data: .nodes {name: {labels, taints}} .encryption .network

readonly OWNED=groundplane.dev/owned  # annotation: the labels and taints that we put there

apply() {
  local name
  for name in $(data '.nodes | keys[]'); do
    wait_until 180 "node $name is in the cluster" kube get node "$name" -o name
    labels "$name"
    taints "$name"
  done
  rewrite_secrets
  [ "$(data .network)" != plain ] || for name in $(data '.nodes | keys[]'); do
    wait_until 300 "node $name is Ready" ready "$name"
  done
}

ready() {
  [ "$(kube get node "$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

# Labels of ours that are no longer wanted go; anybody else's stay.
labels() {
  local node wanted
  node=$(kube get node "$1" -o json)
  wanted=$(data_json ".nodes[\"$1\"].labels // {}")
  jq -n --argjson node "$node" --argjson wanted "$wanted" --arg owned "$OWNED" '
    ($node.metadata.annotations[$owned] // "" | split(",") | map(select(. != ""))) as $before
    | ($before | map(select($wanted[.] == null) | {(.): null}) | add // {}) as $gone
    | {metadata: {labels: ($gone + $wanted),
                  annotations: {($owned): ($wanted | keys | join(","))}}}
    | select(.metadata.annotations[$owned] != ($before | sort | join(","))
             or any($wanted | to_entries[]; $node.metadata.labels[.key] != .value))' |
    patch "$1" "labels of $1"
}

taints() {
  kube get node "$1" -o json | jq --argjson wanted "$(data_json ".nodes[\"$1\"].taints")" '
    # The cluster puts taints of its own; those are not for us to touch.
    select($wanted != null)
    | (.spec.taints // []) as $is
    | ($is | map(select(.key | startswith("node.kubernetes.io/")))) as $theirs
    | ($wanted | map({key, effect} + if (.value // "") == "" then {} else {value} end)) as $ours
    | select(($is - $theirs | sort) != ($ours | sort))
    | {spec: {taints: ($theirs + $ours)}}' | patch "$1" "taints of $1"
}

patch() {
  local body
  body=$(cat)
  [ -n "$body" ] || return 0
  kube patch node "$1" --type merge --patch "$body" >/dev/null
  changed "$2"
}

# A new key protects only what is written after it: so write everything again, once.
rewrite_secrets() {
  local done_with
  done_with=$(kube get namespace "$GATE_NAMESPACE" -o jsonpath='{.metadata.annotations.groundplane\.dev/encryption}')
  [ "$done_with" != "$(data .encryption)" ] || return 0
  [ -z "$done_with" ] || {
    # One that was changed or deleted meanwhile was written with the new key by whoever did it.
    kube get secrets -A -o json | kube --request-timeout 0 replace -f - >/dev/null 2>"$RUN/rewrite" ||
      grep -qvE 'Conflict|NotFound|the object has been modified' "$RUN/rewrite" ||
      die "secrets cannot be rewritten: $(tail -n 3 "$RUN/rewrite")"
    changed "all secrets rewritten with the key of generation $(data .encryption)"
  }
  kube annotate namespace "$GATE_NAMESPACE" --overwrite "groundplane.dev/encryption=$(data .encryption)" >/dev/null
}
