# shellcheck shell=bash
# node: everything that makes a host a member, changes it as one, and lets it leave. Whatever
# disturbs the node happens here, behind the gate, and nowhere else.
# Data: .name .address .role .state .kubernetes .runtime .endpoint .settings
#       .max_unavailable .certificates .encryption .ignore_preflight .immutable .backup
#       .machine of a guest: what its machine is; see release    .hardening

apply() {
  host_apply
  if joined; then change; else enter; fi
  machine_settled
  backup_apply
  record_facts
}

destroy() {
  if joined; then leave; fi
  kubernetes_reset
}

# ---- entering --------------------------------------------------------------------------------

enter() {
  endpoint_apply
  runtime_apply
  link_kubernetes "$(data .kubernetes)"
  kubelet_unit_apply
  # Waits for the node's range of pods while it joins: the sooner it is there, the sooner Ready.
  network_apply
  if is_control_plane; then
    enter_control_plane
  else
    enter_worker
  fi
  # Nobody waits behind this node for its pods: that it gets Ready is looked at once for all nodes.
  wait_serving
  jq -cS '{stack, cluster, immutable}' "$DATA" | write_atomically "$STATE/cluster.json" 0600
  settle
  write_atomically "$STATE/joined" 0600 < <(data .kubernetes)
  ! is_control_plane || gate_leave
}

# settle: what is in force now, so that the next run can tell what would change.
settle() {
  mark_applied runtime "$(runtime_digest)"
  mark_applied kubelet "$(kubelet_digest)"
  ! is_control_plane || {
    mark_applied control-plane "$(control_plane_digest)"
    mark_applied kube-proxy "$(kube_proxy_configuration | digest)"
    mark_applied certificates "$(data .certificates)"
  }
}

runtime_digest() { { runtime_config; runtime_unit; runtime_links; } | digest; }
kubelet_digest() { { kubelet_configuration; kubelet_unit; } | digest; }
control_plane_digest() {
  {
    cluster_configuration | jq -cS 'del(.kubernetesVersion)'
    audit_policy
    kube_proxy_configuration
    admission_configuration
    authentication_configuration
  } | digest
}

enter_control_plane() {
  # The host that founded the cluster is a member already.
  if [ -e "$STATE/cluster.json" ] && [ -e /var/lib/etcd/member ]; then return 0; fi
  forget_half_join
  api_server_files
  mkdir -p "$STATE/join"
  control_plane_documents | write_atomically "$KUBEADM" 0600
  # The identity makes its own credentials: nothing here can have expired.
  local phase
  for phase in "certs etcd-healthcheck-client" "kubeconfig admin"; do
    # shellcheck disable=SC2086 # a phase is two words
    kubeadm init phase $phase --config "$KUBEADM" >"$RUN/kubeadm" 2>&1 ||
      die "kubeadm init phase $phase: $(tail -n 5 "$RUN/kubeadm")"
  done
  cp /etc/kubernetes/admin.conf "$STATE/join/discovery.conf"
  await_cluster
  gate_enter join
  remove_own_ghost
  join_documents "$STATE/join/discovery.conf" | kubeadm_join
}

enter_worker() {
  forget_half_join
  # The cluster's CA came with the secrets: no first use is trusted. kubeadm takes the cluster
  # without a name when no user is given.
  jq -n --rawfile ca "$STATE/join/ca.crt" --arg server "$(endpoint_url)" \
    '{apiVersion: "v1", kind: "Config", clusters: [{name: "", cluster: {
        server: $server, "certificate-authority-data": ($ca | @base64)}}]}' |
    write_atomically "$STATE/join/discovery.conf" 0600
  await_cluster
  await_own_end
  join_documents "$STATE/join/discovery.conf" "$STATE/join/token" | kubeadm_join
}

# The Node of this host's earlier life counts as Ready for a while after that life ended, and
# kubeadm does not take the place of one that is.
await_own_end() {
  local KUBECONFIG=$STATE/join/bootstrap.conf
  jq --rawfile token "$STATE/join/token" '.clusters[0].name = "join" | . + {
      users: [{name: "join", user: {token: ($token | rtrimstr("\n"))}}],
      contexts: [{name: "join", context: {cluster: "join", user: "join"}}],
      "current-context": "join"}' \
    "$STATE/join/discovery.conf" | write_atomically "$KUBECONFIG" 0600
  wait_until 120 "the cluster notices that node $(data .name) is gone, to let it join anew" \
    not_ready_any_more
  rm -f "$KUBECONFIG"
}

not_ready_any_more() {
  local ready
  ready=$(kube get node "$(data .name)" --ignore-not-found \
    -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' 2>&1) || {
    # A token that is not valid is for the join to report.
    [[ $ready == *Unauthorized* || $ready == *Forbidden* ]]
    return
  }
  [ "$ready" != True ]
}

# A join that was cut off leaves a kubelet and perhaps an etcd that belong to nothing. Not by
# `kubeadm reset`, which would take the identity away with the rest.
forget_half_join() {
  [ -e /etc/kubernetes/kubelet.conf ] || [ -e /var/lib/etcd/member ] ||
    [ -e /etc/kubernetes/manifests/etcd.yaml ] || return 0
  systemctl stop kubelet
  stop_pods
  find /var/lib/etcd -mindepth 1 -delete
  rm -rf /etc/kubernetes/*.conf /etc/kubernetes/manifests
  changed "what an unfinished join left is cleared"
}

await_cluster() {
  local server
  server=$(endpoint_url)
  wait_until 120 "an API server answers at $server (a join never founds a cluster)" \
    curl -sfk --max-time 5 -o /dev/null "$server/readyz"
}

# This host is blank, so a member or Node of its name is what an earlier life of it left. etcd
# would refuse every addition while that voter stays silent.
remove_own_ghost() {
  etcd_remove_own " of this host's earlier life"
  kube delete node "$(data .name)" --ignore-not-found >/dev/null
}

kubeadm_join() {
  write_atomically "$STATE/join/kubeadm.json" 0600
  timeout 600 kubeadm join --config "$STATE/join/kubeadm.json" >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm join failed: $(tail -n 25 "$RUN/kubeadm")" "then run the same command again"
  rm -f "$STATE/join/kubeadm.json"
  changed "$(data .name) joined"
}

# ---- changing --------------------------------------------------------------------------------

change() {
  local found
  local -a reasons
  endpoint_apply
  runtime_mirrors
  network_apply
  # In two steps: of a process substitution nobody would see that it failed half way.
  found=$(differences)
  mapfile -t reasons < <(printf %s "$found")
  if [ ${#reasons[@]} -gt 0 ] || [ -e "$STATE/disturbing" ]; then disturb "${reasons[@]}"; fi
  if [ "$(data .state)" = maintenance ]; then rest; else node_uncordon; fi
}

# differences: what would disturb the node, one word a line, in the order in which it is done.
# Static pods before the kubelet's restart: one that changes while a kubelet finds its way back
# waits two minutes for volumes.
differences() {
  [ "$(kubelet_version)" = "$(data .kubernetes)" ] || echo version
  ! is_control_plane || control_plane_differences
  { ! runtime_differs && [ "$(applied runtime)" = "$(runtime_digest)" ]; } || echo runtime
  if [ "$(applied kubelet)" != "$(kubelet_digest)" ] || drifted /var/lib/kubelet/config.yaml ||
    ! same_file /etc/systemd/system/kubelet.service < <(kubelet_unit) ||
    ! systemctl is-active -q kubelet; then echo kubelet; fi
}

control_plane_differences() {
  local name
  { [ "$(applied certificates)" = "$(data .certificates)" ] && ! certificates_end_soon; } ||
    echo certificates
  [ "$(applied control-plane)" = "$(control_plane_digest)" ] || { echo control-plane; return; }
  same_file "$OURS/encryption.json" < <(encryption_configuration "$(data .encryption)") ||
    { echo control-plane; return; }
  ! hardened_files_differ || { echo control-plane; return; }
  for name in kube-apiserver kube-controller-manager kube-scheduler; do
    if [ ! -e "/etc/kubernetes/manifests/$name.yaml" ] ||
      drifted "/etc/kubernetes/manifests/$name.yaml"; then echo control-plane; return; fi
  done
}

# 90 days, in seconds: kubeadm's certificates live a year.
certificates_end_soon() {
  local certificate
  for certificate in "$PKI"/apiserver.crt "$PKI"/etcd/server.crt; do
    openssl x509 -checkend 7776000 -noout -in "$certificate" >/dev/null || return 0
  done
  return 1
}

disturb() {
  local reason
  # What can fail for want of something outside fails before anybody is disturbed.
  [[ " $* " != *" version "* ]] || fetch_images
  ! is_control_plane || snapshot_before
  gate_enter disturb
  write_atomically "$STATE/disturbing" 0600 <<<"$*"
  # Pods outlive a restart of kubelet or containerd, not a change of their versions.
  [[ " $* " != *" version "* && " $* " != *" runtime "* ]] || node_drain
  for reason in "$@"; do
    case $reason in
      version) change_version ;;
      certificates) change_certificates ;;
      control-plane) change_control_plane ;;
      runtime) runtime_apply ;;
      kubelet) change_kubelet ;;
    esac
  done
  wait_healthy
  settle
  node_uncordon
  rm -f "$STATE/disturbing"
  gate_leave
}

rest() {
  [ "$(kube get node "$(data .name)" -o jsonpath='{.spec.unschedulable}')" != true ] || return 0
  gate_enter disturb
  node_drain
  gate_leave
}

change_kubelet() {
  # The cluster's document first, or the next join would bring the old settings back.
  ! is_control_plane || {
    control_plane_documents | write_atomically "$KUBEADM" 0600
    phase "upload-config kubelet"
  }
  kubelet_unit_apply
  timeout 120 kubeadm upgrade node phase kubelet-config >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm cannot write the kubelet's configuration: $(tail -n 5 "$RUN/kubeadm")"
  systemctl restart kubelet
  changed "kubelet restarted"
}

change_control_plane() {
  control_plane_documents | write_atomically "$KUBEADM" 0600
  api_server_files
  if ! covers_names; then
    rm -f "$PKI/apiserver.crt" "$PKI/apiserver.key"
    phase "certs apiserver"
    changed "$PKI/apiserver.crt"
  fi
  local before manifest=/etc/kubernetes/manifests/kube-apiserver.yaml was
  before=$(process_of kube-apiserver)
  was=$(digest <"$manifest" 2>/dev/null || true)
  phase "control-plane all"
  # The kubelet restarts what has a new manifest; files that are read at the start it cannot see.
  [ "$(digest <"$manifest")" != "$was" ] || restart_static kube-apiserver
  await_process kube-apiserver "$before"
  # Behind this host's own API server, which kubeadm talks to, and which may have been down.
  phase "upload-config kubeadm"
  # Only when it is new: kubeadm writes the DaemonSet anew, too, which restarts kube-proxy everywhere
  # where it was restarted for its settings before.
  [ "$(applied kube-proxy)" = "$(kube_proxy_configuration | digest)" ] || phase "addon kube-proxy"
  changed "control plane settings"
}

phase() {
  # shellcheck disable=SC2086 # a phase is one or two words
  kubeadm init phase $1 --config "$KUBEADM" >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm init phase $1 failed: $(tail -n 5 "$RUN/kubeadm")"
}

covers_names() {
  local name text
  text=$(openssl x509 -in "$PKI/apiserver.crt" -noout -ext subjectAltName)
  for name in $(cluster_configuration | jq -r '.apiServer.certSANs[]'); do
    grep -qE "(DNS|IP Address):$name(,|$)" <<<"$text" || return 1
  done
}

new_process() {
  local now
  now=$(process_of "$1")
  [ -n "$now" ] && [ "$now" != "$2" ] && api_server_ready
}

# await_process NAME BEFORE: a static pod runs anew. A kubelet that was restarted while the pod
# changed can lose sight of it (seen with 1.36.3: the sandbox stays, no container follows, for
# ever); starting that kubelet once more always helped.
await_process() {
  within 60 new_process "$1" "$2" || systemctl restart kubelet
  wait_until 180 "$1 runs with what is new" new_process "$1" "$2"
}

# restart_static NAME: the kubelet starts it again at once. What does not end by itself is ended.
restart_static() {
  local pid
  pid=$(process_of "$1")
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || return 0
  within 10 ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
}

ended() { ! kill -0 "$1" 2>/dev/null; }

change_certificates() {
  timeout 120 kubeadm certs renew all --config "$KUBEADM" >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm cannot renew the certificates: $(tail -n 5 "$RUN/kubeadm")"
  local name before
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do
    before=$(process_of "$name")
    restart_static "$name"
    await_process "$name" "$before"
  done
  changed "certificates renewed"
}

# ---- the Kubernetes version ------------------------------------------------------------------

fetch_images() {
  is_control_plane || return 0
  timeout 600 "$PARTS/kubernetes/$(data .kubernetes)/kubeadm" config images pull \
    --kubernetes-version "v$(data .kubernetes)" --cri-socket "$SOCKET" >"$RUN/kubeadm" 2>&1 ||
    die "images of Kubernetes $(data .kubernetes) cannot be had: $(tail -n 5 "$RUN/kubeadm")" \
      "is the registry or its mirror reachable from this host?"
}

change_version() {
  local old new ignore
  old=$(kubelet_version) new=$(data .kubernetes)
  # CreateJob asks for a Pod that completes within a minute somewhere. The gate has looked at etcd
  # and the API servers already, and a full or slow worker is no reason to stop half way.
  ignore=$(data '.ignore_preflight // [] | . + ["CreateJob"] | join(",")')
  link_kubernetes "$new" kubeadm
  if is_control_plane; then
    if [ "$(cluster_version)" != "v$new" ]; then
      timeout 900 kubeadm upgrade apply "v$new" --yes --ignore-preflight-errors "$ignore" \
        >"$RUN/kubeadm" 2>&1
    else
      timeout 900 kubeadm upgrade node --ignore-preflight-errors "$ignore" >"$RUN/kubeadm" 2>&1
    fi || die "kubeadm upgrade to $new failed: $(tail -n 25 "$RUN/kubeadm")" "then run the same command again"
    wait_until 180 "the API server of $new is ready" api_server_ready
  else
    timeout 300 kubeadm upgrade node --ignore-preflight-errors "$ignore" >"$RUN/kubeadm" 2>&1 ||
      die "kubeadm upgrade node failed: $(tail -n 10 "$RUN/kubeadm")"
  fi
  link_kubernetes "$new"
  # One that does not even start is as unhealthy as one that ends later.
  systemctl restart kubelet || true
  if ! (wait_healthy) 2>"$RUN/unhealthy"; then
    # Stop at the first node, and leave it as it was: the others have not been touched.
    link_kubernetes "$old" kubelet kubectl
    systemctl restart kubelet
    (wait_healthy) && node_uncordon && gate_leave
    die "the kubelet $new is not healthy, $old is back: $(cat "$RUN/unhealthy")" "journalctl -u kubelet"
  fi
  changed "Kubernetes $old -> $new"
}

cluster_version() {
  kube -n kube-system get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' |
    sed -n 's/^kubernetesVersion: //p'
}

# ---- facts -----------------------------------------------------------------------------------

record_facts() {
  hardening_modes
  put_file /etc/systemd/system/kubelet.service 0644 < <(kubelet_unit) || true
  fact unit kubelet enabled active
  keep_file /var/lib/kubelet/config.yaml
  keep_file /etc/kubernetes/kubelet.conf
  local link target
  while read -r link target; do fact link "$link" "$target"; done \
    < <(kubernetes_links "$(data .kubernetes)"; runtime_links)
  fact file /etc/containerd/config.toml 0644 "$(runtime_config | digest)"
  fact file /etc/systemd/system/containerd.service 0644 "$(runtime_unit | digest)"
  fact unit containerd enabled active
  is_control_plane || return 0
  local file
  for file in /etc/kubernetes/manifests/*.yaml "$OURS"/*.json; do
    keep_file "$file"
  done
  for file in "$PKI"/apiserver.crt "$PKI"/etcd/server.crt; do
    fact cert "$file" "$(date -d "$(openssl x509 -noout -enddate -in "$file" | cut -d= -f2)" +%s)"
  done
}
