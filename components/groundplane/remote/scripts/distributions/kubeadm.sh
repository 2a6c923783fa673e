# shellcheck shell=bash
# kubeadm: Kubernetes' own tool. containerd runs beside it, and the control plane in static pods.
# kubeadm's documents are made from the step's data (JSON is YAML).
# Data: .name .address .role .kubernetes .endpoint .settings {cluster domain pod_cidrs
#       service_cidrs api_server {args sans} controller_manager scheduler kubelet kube_proxy
#       audit network} .runtime {etcd cgroup_driver} .ignore_preflight .certificates .encryption

readonly PKI=/etc/kubernetes/pki                 # the cluster's identity
readonly CLUSTER_CA=$PKI/ca.crt                  # the root by which a cluster is known
readonly OURS=/etc/kubernetes/groundplane        # what the API server reads from us
readonly ADMIN_CONF=/etc/kubernetes/admin.conf   # kubeconfigs: an administrator's, the node's own
readonly KUBELET_CONF=/etc/kubernetes/kubelet.conf
readonly JOINERS=system:bootstrappers:kubeadm:default-node-token  # the group of a join token
readonly ETCD_DATA=/var/lib/etcd
readonly ETCD_CA=$PKI/etcd/ca.crt
readonly ETCD_CLIENT=$PKI/etcd/healthcheck-client  # .crt and .key, which kubeadm makes for probes
readonly IDENTITY=(ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt
  etcd/ca.key groundplane.key)

readonly KUBEADM=$STATE/kubeadm.json             # what kubeadm was last given on this host
readonly SOCKET=unix:///run/containerd/containerd.sock

# ---- programs ---------------------------------------------------------------------------------

kubernetes_links() {
  local name version=$1
  for name in kubeadm kubectl kubelet; do
    echo "/usr/local/bin/$name $PARTS/kubernetes/$version/$name"
  done
  is_control_plane || return 0
  for name in etcdctl etcdutl; do
    echo "/usr/local/bin/$name $PARTS/etcd/$(data .runtime.etcd)/$name"
  done
}

# link_kubernetes VERSION [NAME...]: all of them, or only those named.
link_kubernetes() {
  local version=$1 link target
  shift
  while read -r link target; do
    [ $# -gt 0 ] && [[ " $* " != *" $(basename "$link") "* ]] || put_link "$link" "$target" || true
  done < <(kubernetes_links "$version")
}

# get_ready: on a host that is not a member yet, while others bootstrap.
get_ready() {
  runtime_apply
  link_kubernetes "$(data .kubernetes)"
  pull_images
}

# kubeadm knows which images a control plane needs; a worker starts with pause and kube-proxy.
pull_images() {
  local image
  for image in $(kubeadm config images list --kubernetes-version "v$(data .kubernetes)" 2>/dev/null); do
    is_control_plane || [[ $image == */kube-proxy:* ]] || [[ $image == */pause:* ]] || continue
    [ -z "$(ctr -n k8s.io images ls -q "name==$image")" ] || continue
    # Best effort: a pull that fails here fails again, with its message, where it is needed.
    if timeout 300 ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$image" \
      >/dev/null 2>&1; then changed "$image pulled"; fi
  done
}

mirrors_apply() { runtime_mirrors; }

install_node() {
  runtime_apply
  link_kubernetes "$(data .kubernetes)"
  kubelet_unit_apply
}

# kubelet_version: of the binary that is linked; kubelet's own unit runs that one.
kubelet_version() { basename "$(dirname "$(readlink /usr/local/bin/kubelet)")"; }

# ---- documents -------------------------------------------------------------------------------

node_registration() {
  data_json '{
    name, criSocket: "'"$SOCKET"'",
    imagePullPolicy: "IfNotPresent",
    ignorePreflightErrors: (.ignore_preflight // []),
    kubeletExtraArgs: [{name: "node-ip", value: ([.address, .second_address // empty] | join(","))}]
  }'
}

# An API server that is told to end is no longer ready at once, and serves for three seconds more:
# HAProxy leaves it within two. Whoever still comes is told to come again. Without this it refuses
# connections from the start, and waits a minute for those who watch it (the kubelet gives it half).
cluster_configuration() {
  data_json '
    def arguments: to_entries | map({name: .key, value: (.value | tostring)});
    def host: if contains(":") then "[\(.)]" else . end;
    .settings as $s
    # Which mask is whose: the flags differ between one family of ranges and two.
    | (if ($s.pod_cidrs | length) == 1 then {"node-cidr-mask-size": $s.node_masks[0]} else
       [$s.pod_cidrs, $s.node_masks] | transpose
       | map({"node-cidr-mask-size-\(if .[0] | contains(":") then "ipv6" else "ipv4" end)": .[1]})
       | add end) as $masks | {
      apiVersion: "kubeadm.k8s.io/v1beta4", kind: "ClusterConfiguration",
      clusterName: $s.cluster,
      kubernetesVersion: "v\(.kubernetes)",
      controlPlaneEndpoint: "\(.endpoint.address | host):\(.endpoint.port)",
      encryptionAlgorithm: "ECDSA-P256",
      networking: {
        podSubnet: ($s.pod_cidrs | join(",")),
        serviceSubnet: ($s.service_cidrs | join(",")),
        dnsDomain: $s.domain
      },
      apiServer: {
        certSANs: ([.endpoint.address] + ($s.api_server.sans // []) | unique),
        extraArgs: ({
          "encryption-provider-config": "'"$OURS"'/encryption.json",
          "encryption-provider-config-automatic-reload": "true",
          "shutdown-delay-duration": "3s",
          "shutdown-send-retry-after": "true"
        } + ($s.audit // {} | if .level == "none" then {} else {
          "audit-policy-file": "'"$OURS"'/audit.json",
          "audit-log-path": "/var/log/kubernetes/audit/audit.log",
          "audit-log-maxage": (.max_age_days // 30),
          "audit-log-maxbackup": (.max_backups // 10),
          "audit-log-maxsize": (.max_size_mib // 100)
        } end) + ($s.api_server.args // {}) | arguments),
        extraVolumes: [
          {name: "groundplane", hostPath: "'"$OURS"'", mountPath: "'"$OURS"'",
           readOnly: true, pathType: "DirectoryOrCreate"},
          {name: "audit", hostPath: "/var/log/kubernetes", mountPath: "/var/log/kubernetes",
           pathType: "DirectoryOrCreate"}
        ]
      },
      controllerManager: {extraArgs: ($masks + ($s.controller_manager // {}) | arguments)},
      scheduler: {extraArgs: ($s.scheduler // {} | arguments)}
    }'
}

kubelet_configuration() {
  local not_here
  not_here=$(hardening_not_here kubelet | jq -cnR '[inputs | [.]]')
  data_json '{apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration",
              cgroupDriver: .runtime.cgroup_driver} + (.settings.kubelet // {})
             | delpaths('"$not_here"')'
}

kube_proxy_configuration() {
  data_json '{apiVersion: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration",
              clusterCIDR: (.settings.pod_cidrs | join(",")), mode: "nftables"}
             + (.settings.kube_proxy // {})'
}

# kubeadm gives an API server one minute for its first answer, which an emulated machine misses.
init_configuration() {
  jq -c -n --argjson node "$(node_registration)" --arg address "$(data .address)" \
    '{apiVersion: "kubeadm.k8s.io/v1beta4", kind: "InitConfiguration", nodeRegistration: $node,
      timeouts: {controlPlaneComponentHealthCheck: "8m0s", kubernetesAPICall: "5m0s"},
      localAPIEndpoint: {advertiseAddress: $address, bindPort: 6443}}'
}

# The documents of a control plane, for `kubeadm init` and each of its phases.
control_plane_documents() {
  init_configuration
  printf -- '---\n'
  cluster_configuration
  printf -- '---\n'
  kubelet_configuration
  printf -- '---\n'
  kube_proxy_configuration
}

# join_documents DISCOVERY [TOKEN_FILE]: DISCOVERY is a kubeconfig that holds the cluster's CA.
# The token comes from a file: a command line is for everybody to read.
join_documents() {
  jq -c -n --argjson node "$(node_registration)" --arg discovery "$1" --rawfile line "${2:-/dev/null}" \
    --arg address "$(data .address)" --arg role "$(data .role)" '
    ($line | rtrimstr("\n")) as $token
    | {apiVersion: "kubeadm.k8s.io/v1beta4", kind: "JoinConfiguration", nodeRegistration: $node,
     timeouts: {discovery: "2m0s", tlsBootstrap: "8m0s", controlPlaneComponentHealthCheck: "8m0s",
                kubernetesAPICall: "5m0s"},
     discovery: ({file: {kubeConfigPath: $discovery}}
                 + if $token == "" then {} else {tlsBootstrapToken: $token} end)}
    + if $role == "control-plane"
      then {controlPlane: {localAPIEndpoint: {advertiseAddress: $address, bindPort: 6443}}}
      else {} end'
}

# ---- kubelet ---------------------------------------------------------------------------------

kubelet_unit() {
  # The config file and the flags file are kubeadm's; it writes both when a node joins.
  cat <<'UNIT'
[Unit]
Description=kubelet, the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
Environment="KUBELET_KUBEADM_ARGS="
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
}

# kubelet_unit_apply: before kubeadm, which starts the service itself.
kubelet_unit_apply() {
  put_file /etc/systemd/system/kubelet.service 0644 < <(kubelet_unit) || true
  load_unit kubelet
}

# ---- founding and joining ---------------------------------------------------------------------

found_control_plane() {
  control_plane_documents | write_atomically "$KUBEADM" 0600
  # keepalived's election is over before there is an API server to be found. kubeadm bounds its own
  # waits (4 minutes each).
  timeout 900 kubeadm init --config "$KUBEADM" --skip-token-print >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm init failed: $(tail -n 25 "$RUN/kubeadm")" "$(endpoint_remedy)"
}

join_control_plane() {
  mkdir -p "$STATE/join"
  control_plane_documents | write_atomically "$KUBEADM" 0600
  # The identity makes its own credentials: nothing here can have expired.
  local phase
  for phase in "certs etcd-healthcheck-client" "kubeconfig admin"; do
    # shellcheck disable=SC2086 # a phase is two words
    kubeadm init phase $phase --config "$KUBEADM" >"$RUN/kubeadm" 2>&1 ||
      die "kubeadm init phase $phase: $(tail -n 5 "$RUN/kubeadm")"
  done
  cp "$ADMIN_CONF" "$STATE/join/discovery.conf"
  await_cluster
  gate_enter join
  remove_own_ghost
  join_documents "$STATE/join/discovery.conf" | kubeadm_join
}

join_worker() {
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
  [ -e "$KUBELET_CONF" ] || [ -e "$ETCD_DATA/member" ] ||
    [ -e /etc/kubernetes/manifests/etcd.yaml ] || return 0
  systemctl stop kubelet
  stop_pods
  find "$ETCD_DATA" -mindepth 1 -delete
  rm -rf /etc/kubernetes/*.conf /etc/kubernetes/manifests
  changed "what an unfinished join left is cleared"
}

kubeadm_join() {
  write_atomically "$STATE/join/kubeadm.json" 0600
  timeout 600 kubeadm join --config "$STATE/join/kubeadm.json" >"$RUN/kubeadm" 2>&1 ||
    die "kubeadm join failed: $(tail -n 25 "$RUN/kubeadm")" "then run the same command again"
  rm -f "$STATE/join/kubeadm.json"
  changed "$(data .name) joined"
}

# administrator USER CONTEXT: a kubeconfig with a certificate for a year.
administrator() {
  local config
  config=$(mktemp "$RUN/kubeconfig.XXXXXX")
  kubeadm kubeconfig user --client-name "$1" --config "$KUBEADM" --validity-period 8760h \
    >"$config" 2>"$RUN/kubeadm" || die "kubeadm makes no kubeconfig: $(tail -n 3 "$RUN/kubeadm")"
  kubectl --kubeconfig "$config" config rename-context "$(kubectl --kubeconfig "$config" config current-context)" \
    "$2" >/dev/null
  sed "s/name: kubernetes$/name: $2/; s/cluster: kubernetes$/cluster: $2/" "$config"
  rm -f "$config"
}

# ---- changing ---------------------------------------------------------------------------------

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

change_runtime() { runtime_apply; }

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

# By a new process and not by an answer: the old API server answers until the moment it ends.
process_of() { pgrep -o -x "${1:0:15}" || true; }

# ---- the Kubernetes version -------------------------------------------------------------------

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

# ---- facts ------------------------------------------------------------------------------------

record_facts() {
  hardening_modes
  put_file /etc/systemd/system/kubelet.service 0644 < <(kubelet_unit) || true
  fact unit kubelet enabled active
  keep_file /var/lib/kubelet/config.yaml
  keep_file "$KUBELET_CONF"
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

# ---- etcd -------------------------------------------------------------------------------------

# etcd_here: this host's own member, on the loopback address that its manifest names.
etcd_here() {
  sed -n 's/.*--listen-client-urls=\([^,]*\).*/\1/p' /etc/kubernetes/manifests/etcd.yaml
}

# etcd_stop ASIDE and etcd_start ASIDE: of this host's member alone. What it is started by is kept in
# the folder ASIDE meanwhile.
etcd_stop() {
  local manifest=/etc/kubernetes/manifests/etcd.yaml
  [ -e "$1/etcd.yaml" ] || cp "$manifest" "$1/etcd.yaml"
  rm -f "$manifest"
  systemctl is-active -q kubelet || systemctl start kubelet
  wait_until 180 "etcd has stopped" stopped etcd
}

etcd_start() { write_atomically /etc/kubernetes/manifests/etcd.yaml 0600 <"$1/etcd.yaml"; }

stopped() { ! pgrep -x "$1"; }

# ---- leaving ----------------------------------------------------------------------------------

# leaving_credentials FILE: what the node may, for the time when nothing of it runs any more.
leaving_credentials() {
  if is_control_plane; then
    cp "$ADMIN_CONF" "$1"
  else
    cp "$KUBELET_CONF" "$1"
    cp -L /var/lib/kubelet/pki/kubelet-client-current.pem "$RUN/leaving.pem"
    sed -i "s|/var/lib/kubelet/pki/kubelet-client-current.pem|$RUN/leaving.pem|" "$1"
  fi
}

stop_node() { systemctl stop kubelet; }

# distribution_stop: nothing of it runs any more, whatever state it is in.
distribution_stop() {
  if [ -x /usr/local/bin/kubeadm ]; then
    systemctl is-active -q containerd || systemctl start containerd 2>/dev/null || true
    # Our own code took the member out already, or the whole cluster goes.
    timeout 300 kubeadm reset --force --cri-socket "$SOCKET" --skip-phases=remove-etcd-member \
      >"$RUN/reset" 2>&1 || true
  fi
  disable_service kubelet
}

# distribution_clear: nothing of it is left.
distribution_clear() {
  runtime_reset
  find "$ETCD_DATA" -mindepth 1 -delete 2>/dev/null || true
  remove_paths /etc/kubernetes /etc/systemd/system/kubelet.service \
    /usr/local/bin/{kubeadm,kubectl,kubelet,etcdctl,etcdutl} "$KUBEADM"
}
