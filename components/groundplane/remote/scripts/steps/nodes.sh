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
  within 180 none absent || die "waited 180 s in vain for nodes to be in the cluster: $(absent)" \
    "journalctl -u kubelet, on those hosts"
  labels_and_taints
  rewrite_secrets
  [ "$(data .network)" != plain ] || within 300 none unready ||
    die "waited 300 s in vain for nodes to be Ready: $(unready)" \
      "kubectl describe node says why; journalctl -u kubelet, on those hosts"
  restart_kube_proxy
  # A node is Ready before services are reached from it.
  [ "$(data .network)" != plain ] ||
    wait_until 180 "kube-proxy runs on all nodes" kube_proxy_everywhere
  forget_gone
}

# none COMMAND: it works, and names nobody.
none() { local found; found=$("$1") && [ -z "$found" ]; }

# For jq: of a Node or a Pod.
readonly READY='def ready: any(.status.conditions[]?; .type == "Ready" and .status == "True");'

# of_nodes FILTER: jq over all Nodes, with what the step says of them as $wanted.
of_nodes() {
  kube get nodes -o json | jq -r --slurpfile step "$DATA" "$READY "'$step[0].nodes as $wanted | '"$1"
}

absent() { of_nodes '($wanted | keys) - [.items[].metadata.name] | join(" ")'; }

# A host in maintenance need not be Ready.
unready() {
  of_nodes '[$wanted | to_entries[] | select(.value.ready) | .key]
    - [.items[] | select(ready) | .metadata.name]
    | join(" ")'
}

# Everything of this update went well, so Pulumi's state has let go of whoever is gone.
forget_gone() {
  jq -c 'del(.gone)' "$STATE/cluster.json" | write_atomically "$STATE/cluster.json" 0600
}

kube_proxy_everywhere() {
  [ -n "$(kube -n kube-system get daemonset kube-proxy --ignore-not-found -o name)" ] || return 0
  kube -n kube-system get pods -l k8s-app=kube-proxy -o json | jq -e \
    --argjson wanted "$(data_json '[.nodes | to_entries[] | select(.value.ready) | .key]')" "$READY"'
    $wanted - [.items[] | select(ready) | .spec.nodeName] == []' >/dev/null
}

labels_and_taints() {
  local name what patch patches
  patches=$(of_nodes '
    def owned($annotation): .metadata.annotations[$annotation] // "" | split(",");
    def labels($wanted):
      (owned("'$OUR_LABELS'") | map(select($wanted[.] == null) | {(.): null}) | add // {}) as $gone
      | .metadata.labels as $is
      | select($gone != {} or any($wanted | to_entries[]; $is[.key] != .value))
      | {metadata: {labels: ($gone + $wanted),
                    annotations: {"'$OUR_LABELS'": ($wanted | keys | join(","))}}};
    def taints($wanted):
      def same: map({key, value: (.value // ""), effect}) | sort;
      ($wanted | map(.key)) as $keys
      | (owned("'$OUR_TAINTS'") + $keys) as $ours
      | (.spec.taints // []) as $is
      | ($is | map(select(.key as $key | $ours | index($key) == null))) as $theirs
      | select(($is - $theirs | same) != ($wanted | same))
      | {metadata: {annotations: {"'$OUR_TAINTS'": ($keys | join(","))}},
         spec: {taints: ($theirs + $wanted)}};
    .items[] | .metadata.name as $name | select($wanted[$name])
    | (labels($wanted[$name].labels // {}) | "\($name) labels \(tojson)"),
      (taints($wanted[$name].taints // []) | "\($name) taints \(tojson)")')
  while read -r name what patch; do
    [ -n "$name" ] || continue
    kube patch node "$name" --type merge --patch "$patch" >/dev/null
    changed "$what of $name"
  done <<<"$patches"
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
