# shellcheck shell=bash
# bootstrap: the one place that founds a cluster. Made once, never updated. Gives the cluster's
# identity: what a host must hold to be a control plane of it.
# Data: as the node step's

apply() {
  refuse_foreign
  if founded; then
    # By a state that was lost, or that was cut off before it heard of it.
    changed "cluster $(cluster_id) adopted: it stands already"
  else
    # An earlier try of ours that did not end: nobody can have joined it, for it gave no identity.
    if [ -e "$ADMIN_CONF" ] || [ -e "$ETCD_DATA/member" ]; then kubernetes_reset; fi
    found
    kube_proxy_follows "$(data_json .settings.kube_proxy | digest)"
  fi
  identity >"$RESULT"
  chmod 0600 "$RESULT"
}

# The cluster's record on its hosts; it says which cluster, and what can never change.
cluster_record() {
  jq -cS --arg cluster "$1" '{stack, cluster: $cluster, immutable}' "$DATA"
}

founded() {
  [ -e "$STATE/cluster.json" ] && [ -e "${CLUSTER_CA%.crt}.key" ] &&
    [ "$(jq -r .stack "$STATE/cluster.json")" = "$(data .stack)" ]
}

refuse_foreign() {
  if [ -e "$STATE/cluster.json" ]; then
    local owner
    owner=$(jq -r .stack "$STATE/cluster.json")
    [ "$owner" = "$(data .stack)" ] ||
      die "this host belongs to the stack $owner" "take it out of that stack first"
  elif [ -e "$KUBELET_CONF" ] && [ ! -e "$STATE/founding" ]; then
    die "this host is a node of a cluster that is not ours" \
      "reset it by what made it, if that cluster is no longer wanted"
  fi
}

found() {
  write_atomically "$STATE/founding" 0600 < <(data .stack)
  host_apply
  endpoint_apply
  [ -e "$PKI/groundplane.key" ] ||
    head -c 32 /dev/urandom | hex | write_atomically "$PKI/groundplane.key" 0600
  install_node
  api_server_files
  network_apply
  found_control_plane
  wait_until 60 "the API answers at the endpoint" api_answers
  rights
  wait_serving
  cluster_record "$(cluster_id)" | write_atomically "$STATE/cluster.json" 0600
  rm -f "$STATE/founding"
  changed "cluster $(cluster_id) founded"
  # What must hold from here on is the node step's to say: this one never runs again, and an
  # upgrade would make its facts look like drift for ever.
  : >"$FACTS"
}

# A cluster is known by its root: the same after a restore, another for every founding.
cluster_id() { openssl x509 -in "$CLUSTER_CA" -outform DER | digest | cut -c1-16; }

identity() {
  local path
  for path in "${IDENTITY[@]}"; do
    jq -n --arg path "$path" --rawfile pem "$PKI/$path" '{($path): $pem}'
  done | jq -cs --arg cluster "$(cluster_id)" '{cluster: $cluster, identity: add}'
}
