#!/usr/bin/env bash
# One host of the bare cluster. Read by bash from stdin: the settings stand before it, and the verb
# that is to be run behind it. See cluster.sh.
set -euo pipefail

SELF=$(uname -n)
IP=${ADDRESS[$SELF]}
export KUBECONFIG=/etc/kubernetes/admin.conf
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

is_control_plane() { [[ " ${CONTROL_PLANES[*]} " == *" $SELF "* ]]; }

# ---- a guest ---------------------------------------------------------------------------------

# cloud-init has ended, which it says by this file. To ask itself would be one more Python.
installed() { until [ -e /run/cloud-init/result.json ]; do sleep 0.2; done; }

# ---- from blank to ready for kubeadm ---------------------------------------------------------

prepare() {
  sysctl -qw net.ipv4.ip_forward=1
  mkdir -p /etc/cni/net.d
  pod_network >/etc/cni/net.d/10-bare.conflist
  pod_routes
  runtime
  # A file, since kubeadm starts it by its name.
  kubelet_unit >/etc/systemd/system/kubelet.service
  systemctl daemon-reload
  systemctl -q enable kubelet
  ! is_control_plane || endpoint
  images
}

# An image may have all parts in it and a runtime that is set up, as that of the lab's guests.
runtime() {
  if command -v containerd >/dev/null; then systemctl start containerd; else parts; fi
}

parts() {
  fetch kubeadm kubelet kubectl runc
  put kubeadm kubelet kubectl runc
  mkdir -p /opt/cni/bin /etc/containerd/certs.d/registry.k8s.io
  curl -sSf "${URL[containerd]}" | tar -xz -C /usr/local
  curl -sSf "${URL[cni-plugins]}" | tar -xz -C /opt/cni/bin
  containerd_config >/etc/containerd/config.toml
  registry >/etc/containerd/certs.d/registry.k8s.io/hosts.toml
  service bare-containerd -p Delegate=yes -p KillMode=process -p LimitNOFILE=1048576 \
    -p TasksMax=infinity /usr/local/bin/containerd
}

# fetch NAME...: beside the program that runs, if one does.
fetch() {
  local name
  for name in "$@"; do curl -sSf -o "/usr/local/bin/$name.new" "${URL[$name]}"; done
}

put() {
  local name
  for name in "$@"; do
    chmod 0755 "/usr/local/bin/$name.new"
    mv "/usr/local/bin/$name.new" "/usr/local/bin/$name"
  done
}

# service NAME [OPTION...] COMMAND...: returns when it says that it is ready.
service() {
  local name=$1
  shift
  systemd-run -q --unit "$name" -p Type=notify -p NotifyAccess=all "$@"
}

containerd_config() {
  cat <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$PAUSE"
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "/etc/containerd/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = $RESTRICT_OOM_SCORE_ADJ
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = $SYSTEMD_CGROUP
TOML
}

registry() {
  cat <<TOML
server = "$REGISTRY"
[host."$REGISTRY"]
  capabilities = ["pull", "resolve"]
TOML
}

# Every host's range of pods is settled beforehand: no wait for anybody to hand one out.
pod_network() {
  cat <<JSON
{"cniVersion": "1.0.0", "name": "bare", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "${PODS[$SELF]}",
                           "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

pod_routes() {
  local other
  for other in "${!PODS[@]}"; do
    [ "$other" = "$SELF" ] || ip route replace "${PODS[$other]}" via "${ADDRESS[$other]}"
  done
}

kubelet_unit() {
  cat <<'UNIT'
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
UNIT
}

endpoint() {
  mkdir -p /etc/bare
  haproxy_config >/etc/bare/haproxy.cfg
  keepalived_config >/etc/bare/keepalived.conf
  service bare-haproxy /usr/sbin/haproxy -Ws -f /etc/bare/haproxy.cfg
  service bare-keepalived /usr/sbin/keepalived --dont-fork --log-console \
    -f /etc/bare/keepalived.conf
}

haproxy_config() {
  local name
  cat <<CFG
global
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 4h
  timeout server 4h
  timeout check 3s
frontend api
  bind :${ENDPOINT##*:}
  default_backend api-servers
backend api-servers
  option httpchk GET /readyz
  default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
CFG
  for name in "${CONTROL_PLANES[@]}"; do echo "  server $name ${ADDRESS[$name]}:6443"; done
}

# The first control plane has the address from the start: nobody waits for an election.
keepalived_config() {
  local name state=BACKUP priority=100
  [ "$SELF" != "${CONTROL_PLANES[0]}" ] || state=MASTER priority=101
  cat <<CFG
vrrp_instance bare {
  state $state
  priority $priority
  interface $(ip -o address show to "$IP" | awk '{ print $2 }')
  virtual_router_id $ROUTER_ID
  advert_int 1
  unicast_src_ip $IP
  unicast_peer {
CFG
  for name in "${CONTROL_PLANES[@]}"; do
    [ "$name" = "$SELF" ] || echo "    ${ADDRESS[$name]}"
  done
  cat <<CFG
  }
  virtual_ipaddress {
    ${ENDPOINT%:*}
  }
}
CFG
}

# What the host will run at once, while others are busy. A worker needs two of them.
images() {
  local image
  for image in $(kubeadm config images list --kubernetes-version "v$KUBERNETES"); do
    is_control_plane || [[ $image =~ /(kube-proxy|pause): ]] || continue
    [ -z "$(ctr -n k8s.io images ls -q "name==$image")" ] || continue
    ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$image" >/dev/null
  done
}

# ---- a cluster -------------------------------------------------------------------------------

found() {
  init_documents >/root/kubeadm.yaml
  kubeadm init --config /root/kubeadm.yaml --upload-certs --skip-token-print
}

join() {
  join_document >/root/kubeadm.yaml
  kubeadm join --config /root/kubeadm.yaml
}

# One call that watches: many would take an emulated processor from those that they wait for.
ready() {
  until kubectl wait --for=condition=Ready --timeout=900s node "${!ADDRESS[@]}"; do sleep 0.2; done
}

# What kubeadm itself waits for is enough on real processors; here each verb is bounded as a whole.
registration() {
  cat <<YAML
timeouts:
  controlPlaneComponentHealthCheck: 15m0s
  discovery: 15m0s
  kubeletHealthCheck: 15m0s
  kubernetesAPICall: 15m0s
  tlsBootstrap: 15m0s
nodeRegistration:
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  ignorePreflightErrors: [$IGNORED]
  kubeletExtraArgs: [{name: node-ip, value: $IP}]
YAML
}

init_documents() {
  cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: "$TOKEN"}]
certificateKey: "$CERTIFICATE_KEY"
localAPIEndpoint: {advertiseAddress: $IP, bindPort: 6443}
$(registration)
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v$KUBERNETES
controlPlaneEndpoint: "$ENDPOINT"
encryptionAlgorithm: ECDSA-P256
networking: {serviceSubnet: $SERVICES}
controllerManager: {extraArgs: $CONTROLLER_MANAGER}
scheduler: {extraArgs: $SCHEDULER}
---
$KUBELET
---
$KUBE_PROXY
YAML
}

join_document() {
  cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  # In a network that nobody else is in. To check the CA would be one more thing to hand around.
  bootstrapToken: {token: "$TOKEN", apiServerEndpoint: "$ENDPOINT", unsafeSkipCAVerification: true}
$(registration)
YAML
  is_control_plane || return 0
  cat <<YAML
controlPlane:
  certificateKey: "$CERTIFICATE_KEY"
  localAPIEndpoint: {advertiseAddress: $IP, bindPort: 6443}
YAML
}

# ---- another version -------------------------------------------------------------------------

# upgrade apply|node
upgrade() {
  put kubeadm
  case $1 in
    apply) kubeadm upgrade apply "v$KUBERNETES" --yes --ignore-preflight-errors "$IGNORED,CreateJob" ;;
    node) kubeadm upgrade node --ignore-preflight-errors "$IGNORED,CreateJob" ;;
  esac
}

drain() { kubectl drain "$1" --ignore-daemonsets --delete-emptydir-data --force --timeout 300s; }

renew_kubelet() {
  put kubelet kubectl
  systemctl restart kubelet
}

# take_back NAME: once it is Ready with the new version.
take_back() {
  local is='{.status.conditions[?(@.type=="Ready")].status} {.status.nodeInfo.kubeletVersion}'
  until [ "$(kubectl get node "$1" -o jsonpath="$is")" = "True v$KUBERNETES" ]; do sleep 0.2; done
  kubectl uncordon "$1"
}
