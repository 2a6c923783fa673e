# shellcheck shell=bash
# K3s: one program that is kubelet, control plane, etcd, containerd and kube-proxy. What it brings
# besides (Traefik, a load balancer, storage, metrics, Flannel) stays off.
# Data: .name .address .second_address .role .kubernetes .endpoint .settings {cluster domain
#       pod_cidrs service_cidrs node_masks api_server {args sans} controller_manager scheduler
#       kubelet kube_proxy audit network} .runtime {etcd cni_plugins cgroup_driver
#       restrict_oom_score_adj proxy} .certificates .encryption

readonly K3S=/var/lib/rancher/k3s
readonly PKI=$K3S/server/tls                     # the cluster's identity
readonly CLUSTER_CA=$PKI/server-ca.crt           # the root by which a cluster is known
readonly OURS=/etc/rancher/k3s/groundplane       # what K3s and its API server read from us
readonly ADMIN_CONF=$OURS/admin.conf             # kubeconfigs: an administrator's, the node's own
readonly KUBELET_CONF=$K3S/agent/kubelet.kubeconfig
readonly JOINERS=system:bootstrappers:k3s:default-node-token  # the group of a join token
readonly ETCD_DATA=$K3S/server/db/etcd
readonly ETCD_CA=$PKI/etcd/server-ca.crt
readonly ETCD_CLIENT=$OURS/etcd                  # .crt and .key, to look at it and to let go of members
readonly IDENTITY=(server-ca.crt server-ca.key client-ca.crt client-ca.key request-header-ca.crt
  request-header-ca.key service.key etcd/server-ca.crt etcd/server-ca.key etcd/peer-ca.crt
  etcd/peer-ca.key groundplane.key)

readonly K3S_CONFIG=/etc/rancher/k3s/config.yaml
readonly KUBELET_SETTINGS=$K3S/agent/etc/kubelet.conf.d/90-groundplane.conf
readonly CONTAINERD_SETTINGS=$K3S/agent/etc/containerd/config-v3.toml.tmpl
readonly K3S_UNIT=/etc/systemd/system/k3s.service
readonly STAYS_DOWN=/run/systemd/system/k3s.service.d/leaving.conf

# ---- programs --------------------------------------------------------------------------------

# Links, "link target" a line. K3s is kubectl, ctr and crictl, too, when it is called so.
k3s_links() {
  local name k3s
  k3s=$PARTS/k3s/$1
  for name in k3s kubectl ctr crictl; do echo "/usr/local/bin/$name $k3s/k3s"; done
  # Imported at each start, from whatever ends like this.
  echo "$K3S/agent/images/k3s-airgap-images.tar.zst $k3s/images"
  for name in "$PARTS/cni-plugins/$(data .runtime.cni_plugins)"/*; do
    [ ! -x "$name" ] || echo "/opt/cni/bin/$(basename "$name") $name"
  done
  is_control_plane || return 0
  for name in etcdctl etcdutl; do
    echo "/usr/local/bin/$name $PARTS/etcd/$(data .runtime.etcd)/$name"
  done
}

link_k3s() {
  local link target
  while read -r link target; do put_link "$link" "$target" || true; done < <(k3s_links "$1")
}

# get_ready: on a host that is not a member yet, while others bootstrap. K3s unpacks itself when it is
# first called.
get_ready() {
  link_k3s "$(data .kubernetes)"
  k3s --version >/dev/null || die "k3s does not run here" "k3s --version"
}

kubelet_version() { basename "$(dirname "$(readlink /usr/local/bin/k3s)")"; }

# Images come with the program, and are imported when it starts.
fetch_images() { :; }

mirrors_apply() { runtime_mirrors; }

# ---- documents -------------------------------------------------------------------------------

# config_file [found]: a server that has the cluster's data starts with them and asks nobody; one
# that has none joins at the endpoint. Only who is told to found does.
config_file() {
  if is_control_plane; then server_config "${1:-join}"; else agent_config; fi
}

agent_config() {
  data_json "$K3S_JQ"' node + {server: endpoint}'
}

# Both take it: what is a list on a command line is one here.
readonly K3S_JQ='
  def arguments: to_entries | map("\(.key)=\(.value)");
  def host: if contains(":") then "[\(.)]" else . end;
  def endpoint: "https://\(.endpoint.address | host):\(.endpoint.port)";
  def addresses: [.address, .second_address // empty];
  def node: {
    "node-name": .name,
    "node-ip": addresses,
    "token-file": "'"$OURS"'/token",
    # K3s gives the kubelet one address only, where no cloud controller sets them.
    "kubelet-arg": (if .second_address then ["node-ip=\(addresses | join(","))"] else [] end),
    "kube-proxy-arg": ["config='"$OURS"'/kube-proxy.json"]
  } | with_entries(select(.value != []));'

server_config() {
  data_json "$K3S_JQ"'
    .settings as $s
    # Which mask is whose: the flags differ between one family of ranges and two.
    | (if ($s.pod_cidrs | length) == 1 then {"node-cidr-mask-size": $s.node_masks[0]} else
       [$s.pod_cidrs, $s.node_masks] | transpose
       | map({"node-cidr-mask-size-\(if .[0] | contains(":") then "ipv6" else "ipv4" end)": .[1]})
       | add end) as $masks
    | node + (if "'"$1"'" == "found" then {"cluster-init": true} else {server: endpoint} end) + {
      "advertise-address": .address,
      "tls-san": ([.endpoint.address] + ($s.api_server.sans // []) | unique),
      "cluster-cidr": $s.pod_cidrs,
      "service-cidr": $s.service_cidrs,
      "cluster-domain": $s.domain,
      "node-taint": ["node-role.kubernetes.io/control-plane:NoSchedule"],
      "write-kubeconfig-mode": "0600",
      "flannel-backend": "none",
      "disable": ["traefik", "servicelb", "local-storage", "metrics-server", "runtimes"],
      "disable-network-policy": true,
      "disable-helm-controller": true,
      "disable-cloud-controller": true,
      # Ours are encrypted and leave the host; see backup.
      "etcd-disable-snapshots": true,
      "kube-apiserver-arg": ({
        "authentication-config": "'"$OURS"'/anonymous.json",
        "encryption-provider-config": "'"$OURS"'/encryption.json",
        "encryption-provider-config-automatic-reload": "true"
      } + ($s.audit // {} | if .level == "none" then {} else {
        "audit-policy-file": "'"$OURS"'/audit.json",
        "audit-log-path": "/var/log/kubernetes/audit/audit.log",
        "audit-log-maxage": (.max_age_days // 30),
        "audit-log-maxbackup": (.max_backups // 10),
        "audit-log-maxsize": (.max_size_mib // 100)
      } end) + ($s.api_server.args // {}) | arguments),
      "kube-controller-manager-arg": ($masks + ($s.controller_manager // {}) | arguments),
      "kube-scheduler-arg": ($s.scheduler // {} | arguments)
    } | with_entries(select(.value != []))'
}

# K3s lets nobody in who has no name; those who ask whether it is ready have none: HAProxy, keepalived
# and hosts that join.
anonymous_configuration() {
  jq -n '{apiVersion: "apiserver.config.k8s.io/v1", kind: "AuthenticationConfiguration",
    anonymous: {enabled: true,
      conditions: [{path: "/livez"}, {path: "/readyz"}, {path: "/healthz"}]}}'
}

kubelet_settings() {
  local not_here
  not_here=$(hardening_not_here kubelet | jq -cnR '[inputs | [.]]')
  data_json '{apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration",
              cgroupDriver: .runtime.cgroup_driver, failSwapOn: true} + (.settings.kubelet // {})
             | delpaths('"$not_here"')'
}

# With a file of its own kube-proxy reads no flags, so what K3s would say by them stands here.
kube_proxy_settings() {
  data_json '{apiVersion: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration",
              clientConnection: {kubeconfig: "'"$K3S"'/agent/kubeproxy.kubeconfig"},
              hostnameOverride: .name, clusterCIDR: (.settings.pod_cidrs | join(",")), mode: "nftables"}
             + (.settings.kube_proxy // {})'
}

# In place of the one that K3s makes: mirrors and the private registry are read at each pull, from the
# files that the other runtime reads, and nothing restarts for them.
containerd_settings() {
  cat <<TOML
version = 3
root = "$K3S/agent/containerd"
state = "/run/k3s/containerd"

[grpc]
  address = "/run/k3s/containerd/containerd.sock"

[plugins.'io.containerd.internal.v1.opt']
  path = "$K3S/agent/containerd"

[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  disable_snapshot_annotations = true
  use_local_image_pull = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{{ .NodeConfig.AgentConfig.PauseImage }}"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "/etc/containerd/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  restrict_oom_score_adj = $(data_json '.runtime.restrict_oom_score_adj // false')

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = $([ "$(data .runtime.cgroup_driver)" = systemd ] && echo true || echo false)
TOML
}

k3s_unit() {
  local kind=server
  is_control_plane || kind=agent
  cat <<UNIT
[Unit]
Description=K3s, Kubernetes in one program
Documentation=https://docs.k3s.io
Wants=network-online.target
After=network-online.target

[Service]
Type=$([ "$kind" = server ] && echo notify || echo exec)
ExecStart=/usr/local/bin/k3s $kind
# Pods outlive it.
KillMode=process
Delegate=yes
Restart=always
RestartSec=5
TimeoutStartSec=600
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
UNIT
  data '.runtime.proxy | select(. != null) | to_entries[]
        | "Environment=\(.key | ascii_upcase | if . == "NO_PROXY" then . else . + "_PROXY" end)=\(.value)"'
  printf '\n[Install]\nWantedBy=multi-user.target\n'
}

# ---- what K3s reads --------------------------------------------------------------------------

# install_node: what must lie there before K3s starts. It is not started.
install_node() {
  link_k3s "$(data .kubernetes)"
  runtime_mirrors
  k3s_files
  credentials
}

k3s_files() {
  put_file "$K3S_CONFIG" 0600 < <(config_file) || true
  put_file "$KUBELET_SETTINGS" 0600 < <(kubelet_settings) || true
  put_file "$CONTAINERD_SETTINGS" 0600 < <(containerd_settings) || true
  put_file "$OURS/kube-proxy.json" 0600 < <(kube_proxy_settings) || true
  put_file "$K3S_UNIT" 0644 < <(k3s_unit) || true
  ! is_control_plane || {
    put_file "$OURS/anonymous.json" 0600 < <(anonymous_configuration) || true
  }
}

# credentials: what this host shows to others. All of it is worked out, so a host that is installed
# anew shows what it showed before, and K3s, which remembers a password for each node, lets it in.
credentials() {
  put_file "$OURS/token" 0600 < <(token_line) || true
  put_file /etc/rancher/node/password 0600 < <(node_password) || true
}

# With the digest of the CA, so that no first use is trusted. Who founds has none yet.
token_line() {
  local ca=$CLUSTER_CA
  is_control_plane || ca=$STATE/join/ca.crt
  # As K3s has the file, with one line break at its end.
  [ ! -e "$ca" ] || printf 'K10%s::' "$(printf '%s\n' "$(cat "$ca")" | digest)"
  if is_control_plane; then
    [ ! -e "$ca" ] || printf 'server:'
    from_secret k3s:server | hex
    echo
  else
    cat "$STATE/join/token"
  fi
}

node_password() {
  if is_control_plane; then from_secret "k3s:node:$(data .name)" | digest; else
    printf 'k3s:node:%s' "$(cat "$STATE/join/token")" | digest
  fi
}

# ---- founding and joining --------------------------------------------------------------------

found_control_plane() {
  name_member
  write_atomically "$K3S_CONFIG" 0600 < <(config_file found)
  start_k3s "$(endpoint_remedy)"
  administrate
}

join_control_plane() {
  administrate
  await_cluster
  gate_enter join
  remove_own_ghost
  name_member
  start_k3s "then run the same command again"
  changed "$(data .name) joined"
}

join_worker() {
  await_cluster
  start_k3s "then run the same command again"
  # Its own credentials came with the first answer of a server; by them it is known from now on.
  wait_until 180 "node $(data .name) is reported" node_reported
  changed "$(data .name) joined"
}

# K3s gives a member of etcd a name of its own making, unless one is there: ours is the host's.
name_member() {
  (umask 077 && mkdir -p "$ETCD_DATA")
  printf '%s' "$(data .name)" | write_atomically "$ETCD_DATA/name" 0600
}

# start_k3s REMEDY: up to where a server is ready; of an agent, where it runs.
start_k3s() {
  load_unit k3s
  systemctl start k3s ||
    die "k3s does not start: $(journalctl -u k3s -n 5 -o cat --no-pager 2>/dev/null | tail -n 5)" "$1"
}

# A join that was cut off leaves an agent and perhaps an etcd that belong to nothing. The identity
# stays.
forget_half_join() {
  [ -e "$KUBELET_CONF" ] || [ -e "$ETCD_DATA/member" ] || return 0
  stop_node
  stop_pods_of_k3s
  rm -rf "$K3S/server/db" "$K3S/server/cred" "$K3S"/agent/*.{crt,key,kubeconfig}
  changed "what an unfinished join left is cleared"
}

# administrate: what the steps ask the API and etcd by, made anew when it ends soon. K3s' own
# kubeconfig asks this host's server only, and there is none before it joins.
administrate() {
  [ ! -e "$ADMIN_CONF" ] || ends_soon "$OURS/admin.crt" || ends_soon "$ETCD_CLIENT.crt" || return 0
  client_certificate "$PKI/etcd/server-ca" "/CN=groundplane" "$ETCD_CLIENT"
  client_certificate "$PKI/client-ca" "/O=system:masters/CN=groundplane:$(data .name)" "$OURS/admin"
  kubeconfig_of "$OURS/admin" groundplane | write_atomically "$ADMIN_CONF" 0600
  changed "$ADMIN_CONF"
}

# administrator USER CONTEXT: a kubeconfig with a certificate for a year.
administrator() {
  local own=$RUN/administrator
  client_certificate "$PKI/client-ca" "/CN=$1" "$own"
  kubeconfig_of "$own" "$2"
  rm -f "$own".{crt,key}
}

# client_certificate CA SUBJECT FILE: signed by CA.key, for a year; FILE.crt and FILE.key.
client_certificate() {
  (
    umask 077
    openssl ecparam -name prime256v1 -genkey -noout -out "$3.key"
    openssl req -new -key "$3.key" -subj "$2" |
      openssl x509 -req -CA "$1.crt" -CAkey "$1.key" -days 365 -sha256 \
        -set_serial "0x00$(head -c 16 /dev/urandom | hex)" -out "$3.crt" \
        -extfile <(printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n')
  ) >"$RUN/openssl" 2>&1 || die "openssl signs no certificate: $(tail -n 1 "$RUN/openssl")"
}

# kubeconfig_of FILE NAME: with all that it needs inside.
kubeconfig_of() {
  jq -n --rawfile ca "$CLUSTER_CA" --rawfile crt "$1.crt" --rawfile key "$1.key" --arg name "$2" \
    --arg server "$(endpoint_url)" '
    {apiVersion: "v1", kind: "Config", "current-context": $name,
     clusters: [{name: $name, cluster: {server: $server, "certificate-authority-data": ($ca | @base64)}}],
     contexts: [{name: $name, context: {cluster: $name, user: $name}}],
     users: [{name: $name, user: {"client-certificate-data": ($crt | @base64),
                                  "client-key-data": ($key | @base64)}}]}'
}

# ---- changing --------------------------------------------------------------------------------

settle() {
  mark_applied k3s "$(k3s_digest)"
  ! is_control_plane || mark_applied certificates "$(data .certificates)"
}

k3s_digest() {
  {
    config_file
    kubelet_settings
    kube_proxy_settings
    containerd_settings
    k3s_unit
    ! is_control_plane || { audit_policy; anonymous_configuration; }
  } | digest
}

# differences: what would disturb the node, one word a line, in the order in which it is done. All is
# one program, so each is a restart of it.
differences() {
  local file
  [ "$(kubelet_version)" = "$(data .kubernetes)" ] || echo version
  certificates_differ && echo certificates
  if [ "$(applied k3s)" != "$(k3s_digest)" ] || ! systemctl is-active -q k3s; then
    echo settings
    return
  fi
  for file in "$K3S_CONFIG" "$KUBELET_SETTINGS" "$CONTAINERD_SETTINGS" "$OURS/kube-proxy.json" "$K3S_UNIT"; do
    ! drifted "$file" || { echo settings; return; }
  done
  is_control_plane || return 0
  for file in "$OURS/audit.json" "$OURS/anonymous.json"; do
    ! drifted "$file" || { echo settings; return; }
  done
  same_file "$OURS/encryption.json" < <(encryption_configuration "$(data .encryption)") || echo settings
}

certificates_differ() {
  local certificate
  ! is_control_plane || [ "$(applied certificates)" = "$(data .certificates)" ] || return 0
  while read -r certificate; do ! ends_soon "$certificate" || return 0; done < <(leaf_certificates)
  return 1
}

# Of a control plane the API server's and etcd's, and the administrator's; of each node its own.
leaf_certificates() {
  echo "$K3S/agent/client-kubelet.crt"
  echo "$K3S/agent/serving-kubelet.crt"
  is_control_plane || return 0
  echo "$PKI/serving-kube-apiserver.crt"
  echo "$PKI/etcd/server-client.crt"
  echo "$OURS/admin.crt"
  echo "$ETCD_CLIENT.crt"
}

# 90 days, in seconds: K3s' certificates live a year, and those with fewer than 120 days left are new
# after each start.
ends_soon() { ! openssl x509 -checkend 7776000 -noout -in "$1" >/dev/null; }

change_settings() {
  k3s_files
  ! is_control_plane || api_server_files
  restart_k3s
  changed "settings"
}

restart_k3s() {
  load_unit k3s
  systemctl restart k3s || die "k3s does not restart" "journalctl -u k3s"
}

# Those of the components only; K3s puts what was there aside. The CAs stay.
change_certificates() {
  stop_node
  k3s certificate rotate >"$RUN/k3s" 2>&1 ||
    die "k3s cannot renew the certificates: $(tail -n 3 "$RUN/k3s")" "journalctl -u k3s"
  ! is_control_plane || { rm -f "$ADMIN_CONF"; administrate; }
  restart_k3s
  changed "certificates renewed"
}

change_version() {
  local old new
  old=$(kubelet_version) new=$(data .kubernetes)
  link_k3s "$new"
  k3s_files
  # One that does not even start is as unhealthy as one that ends later.
  systemctl daemon-reload
  systemctl restart k3s || true
  if ! (wait_healthy) 2>"$RUN/unhealthy"; then
    # Stop at the first node, and leave it as it was: the others have not been touched.
    link_k3s "$old"
    systemctl restart k3s || true
    (wait_healthy) && node_uncordon && gate_leave
    die "K3s $new is not healthy, $old is back: $(cat "$RUN/unhealthy")" "journalctl -u k3s"
  fi
  changed "K3s $old -> $new"
}

# ---- facts -----------------------------------------------------------------------------------

record_facts() {
  local file link target
  k3s_files
  credentials
  fact unit k3s enabled active
  while read -r link target; do fact link "$link" "$target"; done < <(k3s_links "$(data .kubernetes)")
  ! is_control_plane || for file in "$OURS/audit.json" "$OURS/encryption.json" "$ADMIN_CONF"; do
    keep_file "$file"
  done
  while read -r file; do
    fact cert "$file" "$(date -d "$(openssl x509 -noout -enddate -in "$file" | cut -d= -f2)" +%s)"
  done < <(leaf_certificates)
}

# ---- etcd ------------------------------------------------------------------------------------

# etcd_here: this host's own member.
etcd_here() { etcd_url "$(jq -r '."advertise-address"' "$K3S_CONFIG")"; }

# etcd_stop ASIDE and etcd_start ASIDE: of this host's member, which is a part of K3s.
etcd_stop() { stop_node; }
etcd_start() { start_k3s "journalctl -u k3s"; }

# ---- leaving ---------------------------------------------------------------------------------

# leaving_credentials FILE: what the node may, for the time when nothing of it runs any more.
leaving_credentials() {
  if is_control_plane; then
    cp "$ADMIN_CONF" "$1"
    # K3s that was taken out of etcd ends, and when it is started again it joins again.
    write_atomically "$STAYS_DOWN" 0644 <<<$'[Service]\nRestart=no'
    systemctl daemon-reload
  else
    # Its own names files, and asks a balancer that is a part of K3s.
    cp "$K3S/agent/client-kubelet.crt" "$RUN/leaving.crt"
    cp "$K3S/agent/client-kubelet.key" "$RUN/leaving.key"
    jq -n --arg server "$(endpoint_url)" --rawfile ca "$K3S/agent/server-ca.crt" --arg own "$RUN/leaving" '
      {apiVersion: "v1", kind: "Config", "current-context": "own",
       clusters: [{name: "own", cluster: {server: $server, "certificate-authority-data": ($ca | @base64)}}],
       contexts: [{name: "own", context: {cluster: "own", user: "own"}}],
       users: [{name: "own", user: {"client-certificate": "\($own).crt", "client-key": "\($own).key"}}]}' >"$1"
  fi
}

stop_node() { systemctl stop k3s; }

# distribution_stop: nothing of it runs any more, whatever state it is in.
distribution_stop() {
  disable_service k3s
  stop_pods_of_k3s
}

# With no kubelet left that could do it: their shims are asked by nobody any more.
stop_pods_of_k3s() {
  local pid name
  for pid in $(pgrep -f "^$K3S/data/[^/]*/bin/containerd-shim" || true); do
    # All of a pod's processes are below its shim.
    kill_tree "$pid"
  done
  awk '$2 ~ "^/run/k3s" || $2 ~ "^/var/lib/rancher/k3s" { print $2 }' /proc/mounts |
    sort -r | xargs -r umount -l
  # With a pod's network its ends on this host go, too.
  for name in $(ip netns list 2>/dev/null | awk '/^cni-/ { print $1 }'); do
    ip netns delete "$name" 2>/dev/null || true
  done
}

kill_tree() {
  local child
  for child in $(pgrep -P "$1" || true); do kill_tree "$child"; done
  kill -KILL "$1" 2>/dev/null || true
}

# distribution_clear: nothing of it is left.
distribution_clear() {
  find /opt/cni/bin -lname "$PARTS/*" -delete 2>/dev/null || true
  remove_paths /etc/rancher "$K3S" /run/k3s "$K3S_UNIT" "$(dirname "$STAYS_DOWN")" /etc/containerd \
    /usr/local/bin/{k3s,kubectl,ctr,crictl,etcdctl,etcdutl}
}
