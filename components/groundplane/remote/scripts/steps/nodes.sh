# shellcheck shell=bash
# nodes: what only an administrator may say of Nodes (labels, taints), the secrets rewritten after
# a new encryption key, kube-proxy restarted with new settings, and the wait until all nodes are
# Ready.
# Data: .nodes {name: {labels, taints}} .encryption .network .kube_proxy

# What we put on a Node stands in these annotations, so that it can be taken away again, and
# labels and taints of anybody else stay.
readonly OUR_LABELS=groundplane.dev/labels
readonly OUR_TAINTS=groundplane.dev/taints

apply() {
  local name
  for name in $(data '.nodes | keys[]'); do
    wait_until 180 "node $name is in the cluster" kube get node "$name" -o name
    labels "$name"
    taints "$name"
  done
  rewrite_secrets
  [ "$(data .network)" != plain ] || for name in $(data '.nodes | keys[]'); do
    # A host in maintenance need not be Ready.
    [ "$(data ".nodes[\"$name\"].ready")" = true ] || continue
    wait_until 300 "node $name is Ready" ready "$name"
  done
  restart_kube_proxy
  # A node is Ready before services are reached from it.
  [ "$(data .network)" != plain ] ||
    wait_until 180 "kube-proxy runs on all nodes" kube_proxy_everywhere
  forget_gone
}

# Everything of this update went well, so Pulumi's state has let go of whoever is gone.
forget_gone() {
  jq -c 'del(.gone)' "$STATE/cluster.json" | write_atomically "$STATE/cluster.json" 0600
}

ready() {
  [ "$(kube get node "$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

kube_proxy_everywhere() {
  [ -n "$(kube -n kube-system get daemonset kube-proxy --ignore-not-found -o name)" ] || return 0
  kube -n kube-system get pods -l k8s-app=kube-proxy -o json | jq -e \
    --argjson wanted "$(data_json '[.nodes | to_entries[] | select(.value.ready) | .key]')" '
    [.items[] | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))
     | .spec.nodeName] as $on | $wanted - $on == []' >/dev/null
}

# owned ANNOTATION: what a Node's annotation lists, as a jq filter over the Node.
owned() { echo "(.metadata.annotations[\"$1\"] // \"\" | split(\",\"))"; }

labels() {
  kube get node "$1" -o json | jq --argjson wanted "$(data_json ".nodes[\"$1\"].labels // {}")" "
    $(owned $OUR_LABELS) as \$before
    | (\$before | map(select(\$wanted[.] == null) | {(.): null}) | add // {}) as \$gone
    | select(\$gone != {} or any((\$wanted | to_entries[]) as \$l | .metadata.labels[\$l.key] != \$l.value; .))
    | {metadata: {labels: (\$gone + \$wanted),
                  annotations: {\"$OUR_LABELS\": (\$wanted | keys | join(\",\"))}}}" |
    patch "$1" "labels of $1"
}

taints() {
  kube get node "$1" -o json | jq --argjson wanted "$(data_json ".nodes[\"$1\"].taints // []")" "
    $(owned $OUR_TAINTS) as \$before
    | (.spec.taints // []) as \$is
    | (\$wanted | map(.key)) as \$keys
    | (\$is | map(select(.key as \$k | (\$before + \$keys | index(\$k)) == null))) as \$theirs
    | select((\$is - \$theirs | map({key, value: (.value // \"\"), effect}) | sort)
             != (\$wanted | map({key, value: (.value // \"\"), effect}) | sort))
    | {metadata: {annotations: {\"$OUR_TAINTS\": (\$keys | join(\",\"))}},
       spec: {taints: (\$theirs + \$wanted)}}" | patch "$1" "taints of $1"
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
      only_says 'Conflict|NotFound|the object has been modified' "$RUN/rewrite" ||
      die "secrets cannot be rewritten: $(tail -n 3 "$RUN/rewrite")"
    changed "all secrets rewritten with the key of generation $(data .encryption)"
  }
  kube annotate namespace "$GATE_NAMESPACE" --overwrite "groundplane.dev/encryption=$(data .encryption)" >/dev/null
}

# only_says PATTERN FILE: it says something, and each of its lines has this.
only_says() { [ -s "$2" ] && ! grep -qvE "$1" "$2"; }

# The control planes wrote the ConfigMap; its pods read it when they start, and nothing starts them
# again. Here and not there: once for all, when every node is there to follow. The DaemonSet goes
# from one node to the next, so settings that kube-proxy cannot live with stop at the first.
restart_kube_proxy() {
  local wanted
  wanted=$(data_json .kube_proxy | digest)
  [ "$(kube get namespace "$GATE_NAMESPACE" \
    -o jsonpath='{.metadata.annotations.groundplane\.dev/kube-proxy}')" != "$wanted" ] || return 0
  # Some pod networks do without it.
  [ -n "$(kube -n kube-system get daemonset kube-proxy --ignore-not-found -o name)" ] || return 0
  # The same text twice is no second restart: what was cut off is only waited for.
  kube -n kube-system patch daemonset kube-proxy --type merge --patch \
    '{"spec": {"template": {"metadata": {"annotations": {"groundplane.dev/settings": "'"$wanted"'"}}}}}' \
    >/dev/null
  kube --request-timeout 0 -n kube-system rollout status daemonset kube-proxy \
    --timeout "$((120 + 20 * $(data '.nodes | length')))s" >"$RUN/rollout" 2>&1 ||
    die "kube-proxy does not run everywhere with its new settings: $(tail -n 1 "$RUN/rollout")" \
      "kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide, and the log of one that is not ready"
  kube_proxy_follows "$wanted"
  changed "kube-proxy restarted with its new settings"
}
