# shellcheck shell=bash
# kubeadm's documents, made from the step's data (JSON is YAML), and the kubelet around them.
# Data: .name .address .role .kubernetes .endpoint .settings {cluster domain pod_cidrs
#       service_cidrs api_server {args sans} controller_manager scheduler kubelet kube_proxy
#       audit network} .runtime {etcd cgroup_driver} .ignore_preflight

readonly KUBEADM=$STATE/kubeadm.json             # what kubeadm was last given on this host
readonly PKI=/etc/kubernetes/pki
readonly OURS=/etc/kubernetes/groundplane        # what the API server reads from us
readonly SOCKET=unix:///run/containerd/containerd.sock

is_control_plane() { [ "$(data .role)" = control-plane ]; }

# joined: whether this host is a complete member; written as the last act of joining.
joined() { [ -e "$STATE/joined" ]; }

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
  data_json '{apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration",
              cgroupDriver: .runtime.cgroup_driver} + (.settings.kubelet // {})'
}

kube_proxy_configuration() {
  data_json '{apiVersion: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration",
              clusterCIDR: (.settings.pod_cidrs | join(",")), mode: "nftables"}
             + (.settings.kube_proxy // {})'
}

# kube_proxy_follows DIGEST: of the settings with which its pods were started last.
kube_proxy_follows() {
  kube annotate namespace "$GATE_NAMESPACE" --overwrite "groundplane.dev/kube-proxy=$1" >/dev/null
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
     timeouts: {discovery: "2m0s", controlPlaneComponentHealthCheck: "8m0s", kubernetesAPICall: "5m0s"},
     discovery: ({file: {kubeConfigPath: $discovery}}
                 + if $token == "" then {} else {tlsBootstrapToken: $token} end)}
    + if $role == "control-plane"
      then {controlPlane: {localAPIEndpoint: {advertiseAddress: $address, bindPort: 6443}}}
      else {} end'
}

# ---- what the API server reads ---------------------------------------------------------------

# Who did what to which object; the objects themselves only at the level `request`, and never
# those that hold secrets.
audit_policy() {
  data_json '
    def rule($level): {level: $level};
    .settings.audit // {} | .policy // {
      apiVersion: "audit.k8s.io/v1", kind: "Policy", omitStages: ["RequestReceived"], rules: ([
        rule("None") + {users: ["system:kube-proxy", "system:apiserver"], verbs: ["get", "watch", "list"]},
        rule("None") + {userGroups: ["system:nodes"], verbs: ["get", "watch", "list"]},
        rule("None") + {nonResourceURLs: ["/healthz*", "/readyz*", "/livez*", "/version", "/openapi*"]},
        rule("None") + {resources: [{group: "coordination.k8s.io", resources: ["leases"]},
                                    {group: "", resources: ["events"]}]},
        rule("Metadata") + {resources: [{group: "", resources: ["secrets", "configmaps", "serviceaccounts/token"]},
                                        {group: "authentication.k8s.io", resources: ["tokenreviews"]}]}
      ] + if .level == "request" then [rule("Request")] else [rule("Metadata")] end)
    }'
}

# Put in place before the first API server starts; changing them later is for the gate.
api_server_files() {
  put_file "$OURS/audit.json" 0600 < <(audit_policy) || true
  encryption_apply
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

# ---- health ----------------------------------------------------------------------------------

# By a new process and not by an answer: the old API server answers until the moment it ends.
process_of() { pgrep -o -x "${1:0:15}" || true; }

api_server_ready() { curl -sfk --max-time 3 -o /dev/null "https://localhost:6443/readyz"; }

api_answers() { kube get --raw /readyz; }

node_ready() {
  local version
  version=$(kube get node "$(data .name)" \
    -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.status.nodeInfo.kubeletVersion}')
  [ "$version" = "True v$(kubelet_version)" ]
}

# With no pod network yet, a node that its kubelet reports is all there can be.
node_reported() { kube get node "$(data .name)" -o name; }

# kubelet_version: of the binary that is linked; kubelet's own unit runs that one.
kubelet_version() { basename "$(dirname "$(readlink /usr/local/bin/kubelet)")"; }

# wait_serving: what the other control planes rely on.
wait_serving() {
  is_control_plane || return 0
  wait_until 180 "the API server on $(data .name) is ready" api_server_ready
  wait_until 120 "etcd on $(data .name) is healthy" \
    etcd_at "$(etcd_url "$(data .address)")" endpoint health
}

wait_healthy() {
  wait_serving
  if [ "$(data .settings.network)" = plain ]; then
    wait_until 180 "node $(data .name) is Ready" node_ready
  else
    wait_until 180 "node $(data .name) is reported" node_reported
  fi
}

# ---- leaving nothing -------------------------------------------------------------------------

# Everything of ours and of the cluster's on this host, whatever state it is in.
kubernetes_reset() {
  local mount
  if [ -x /usr/local/bin/kubeadm ]; then
    systemctl is-active -q containerd || systemctl start containerd 2>/dev/null || true
    # Our own code took the member out already, or the whole cluster goes.
    timeout 300 kubeadm reset --force --cri-socket "$SOCKET" --skip-phases=remove-etcd-member \
      >"$RUN/reset" 2>&1 || true
  fi
  disable_service kubelet
  backup_reset
  network_reset
  endpoint_reset
  runtime_reset
  awk '$2 ~ "^/var/lib/kubelet/" { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount -l "$mount" || true
  done
  find /var/lib/kubelet /var/lib/etcd -mindepth 1 -delete 2>/dev/null || true
  remove_paths /etc/kubernetes /var/log/kubernetes /etc/systemd/system/kubelet.service \
    /usr/local/bin/{kubeadm,kubectl,kubelet,etcdctl,etcdutl} "$KUBEADM" "$STATE/joined" \
    "$STATE/applied" "$STATE/cordoned" "$STATE/join" "$STATE/cluster.json" "$STATE/machine" "$STATE/images"
  nft delete table ip kube-proxy 2>/dev/null || true
  nft delete table ip6 kube-proxy 2>/dev/null || true
  reset_kubelet_chains iptables
  reset_kubelet_chains ip6tables
  host_reset
  systemctl daemon-reload
}

# The kubelet and a kube-proxy in iptables mode leave chains behind that all begin with KUBE-, and
# Calico beside them such that begin with cali-.
reset_kubelet_chains() {
  command -v "$1-save" >/dev/null || return 0
  local rules table
  rules=$("$1-save" 2>/dev/null) || return 0
  grep -qE 'KUBE-|cali-' <<<"$rules" || return 0
  grep -vE 'KUBE-|cali-' <<<"$rules" | "$1-restore"
  # Tables that iptables made for those chains and that now hold nothing do nothing.
  for table in mangle filter nat; do
    grep -qv ' ACCEPT$' <<<"$("$1" -t "$table" -S)" ||
      nft delete table "${1/tables/}" "$table" 2>/dev/null || true
  done
  changed "$1 chains of Kubernetes removed"
}
