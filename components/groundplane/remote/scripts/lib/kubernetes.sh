# shellcheck shell=bash
# A node of Kubernetes, whatever the distribution: what its API server reads, its health, and what is
# left when it goes. What differs is in distributions/.
# Data: .name .address .role .settings {audit network}

is_control_plane() { [ "$(data .role)" = control-plane ]; }

# joined: whether this host is a complete member; written as the last act of joining.
joined() { [ -e "$STATE/joined" ]; }

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
  hardened_files
  encryption_apply
}

# kube_proxy_follows DIGEST: of the settings with which its pods were started last.
kube_proxy_follows() {
  kube annotate namespace "$GATE_NAMESPACE" --overwrite "groundplane.dev/kube-proxy=$1" >/dev/null
}

# ---- health ----------------------------------------------------------------------------------

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
  distribution_stop
  backup_reset
  network_reset
  endpoint_reset
  distribution_clear
  awk '$2 ~ "^/var/lib/kubelet/" { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount -l "$mount" || true
  done
  find /var/lib/kubelet -mindepth 1 -delete 2>/dev/null || true
  remove_paths /var/log/kubernetes "$STATE/joined" "$STATE/applied" "$STATE/cordoned" "$STATE/join" \
    "$STATE/cluster.json" "$STATE/machine" "$STATE/images" "$STATE/rebooting"
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
