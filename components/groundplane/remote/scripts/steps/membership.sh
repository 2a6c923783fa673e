# shellcheck shell=bash
# membership: on a living control plane, before every join. Takes out what the specification no
# longer names and does not answer, never what lives, and lets the named workers in.
# Why before: Pulumi creates the new before it deletes the old, and etcd refuses to add a member
# while a voting one is silent; a dead host's own steps cannot connect to say that it left.
# Data: .control_planes {name: address} .workers [name] .images {name: digest} of guests among them

apply() {
  rights
  remove_silent_members
  remove_silent_nodes
  admit_workers
}

remove_silent_members() {
  local id name url health endpoints
  endpoints=$(jq -r '.control_planes[]' "$DATA" | while read -r address; do etcd_url "$address"; done |
    paste -sd,)
  while read -r id name url _ health; do
    [ "$health" = unhealthy ] || continue
    ! wanted_member "$name" "$url" || continue
    etcd_remove "$endpoints" "$id"
    changed "etcd member $name ($url) removed: not wanted and silent"
  done < <(etcd_members "$endpoints")
}

# A member that never started has no name; its address tells.
wanted_member() {
  jq -e --arg name "$1" --arg url "$2" '.control_planes | to_entries
    | any(.key == $name or ("//\(.value):", "//[\(.value)]:" | inside($url)))' \
    "$DATA" >/dev/null
}

remove_silent_nodes() {
  local name
  for name in $(kube get nodes -o jsonpath='{.items[*].metadata.name}'); do
    jq -e --arg n "$name" '.control_planes[$n] != null or any(.workers[]; . == $n)' "$DATA" >/dev/null &&
      continue
    silent "$name" 30 || continue
    # First the record: if this is cut off, the program still knows whom to let go of.
    jq -c --arg name "$name" '.gone = ((.gone // []) + [$name] | unique)' "$STATE/cluster.json" |
      write_atomically "$STATE/cluster.json" 0600
    kube delete node "$name" >/dev/null
    changed "node $name deleted: not wanted and silent"
  done
}

# silent NAME SECONDS. A kubelet renews its lease every 10; Ready itself is believed for much longer.
silent() {
  local renewed
  renewed=$(kube -n kube-node-lease get lease "$1" --ignore-not-found -o jsonpath='{.spec.renewTime}')
  [ -z "$renewed" ] || [ $(($(date +%s) - $(date -d "$renewed" +%s))) -gt "$2" ]
}

# A worker's join token is worked out on both sides from the cluster's secret; what
# expires is the cluster's permission, given here and only while the worker is no living node: one
# that was installed anew finds the Node of its earlier life there still.
admit_workers() {
  local name
  for name in $(data '.workers[]'); do
    silent "$name" 15 || installed_anew "$name" || continue
    token "$name" | kube_apply
  done
  data_json '.images // {}' | write_atomically "$STATE/images" 0600
}

# A guest that this update installs anew lives still, and leaves when its turn has come.
installed_anew() {
  local was
  was=$(jq -r --arg name "$1" '.[$name] // empty' "$STATE/images" 2>/dev/null) || return 1
  [ -n "$was" ] && [ "$was" != "$(jq -r --arg name "$1" '.images[$name] // empty' "$DATA")" ]
}

token() {
  local id secret
  id=$(printf 'id:%s' "$1" | digest | cut -c1-6)
  secret=$(from_secret "join:$1" | hex | cut -c1-16)
  cat <<JSON
{"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
 "metadata": {"name": "bootstrap-token-$id", "namespace": "kube-system"},
 "stringData": {
   "description": "$1 joins", "token-id": "$id", "token-secret": "$secret",
   "expiration": "$(date -u -d '+2 hours' +%FT%TZ)", "usage-bootstrap-authentication": "true",
   "auth-extra-groups": "$JOINERS"}}
JSON
}
