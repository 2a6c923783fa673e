# shellcheck shell=bash
# The network `plain`: the reference ptp plugin on each host, and a unit that keeps a route to
# every other node's pods. For hosts on one segment; anything else needs a real pod network.
# Data: .name .settings {network pod_cidrs}

network_unit() {
  cat <<UNIT
[Unit]
Description=routes to the pods of the other nodes
Documentation=man:ip-route(8)
After=network-online.target

[Service]
# The node's own credentials: they may read Nodes and nothing else that matters here.
Environment=KUBECONFIG=$KUBELET_CONF
ExecStart=/usr/local/lib/groundplane/current/plain-network $(data .name) $(data '.settings.pod_cidrs | join(" ")')
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
UNIT
}

network_apply() {
  [ "$(data .settings.network)" = plain ] || return 0
  local restart=""
  put_file /etc/systemd/system/groundplane-network.service 0644 < <(network_unit) &&
    restart=restart
  enable_service groundplane-network "$restart"
}

network_reset() {
  disable_service groundplane-network
  remove_paths /etc/systemd/system/groundplane-network.service \
    /etc/cni/net.d/10-groundplane.conflist
  "$(dirname "${BASH_SOURCE[0]}")/../plain-network" --remove
  calico_reset
}

# What the add-on calico put on this host from inside its pods, and what its data plane leaves in
# the kernel: otherwise the next cluster's kubelet would find a network that is no more.
calico_reset() {
  local family link
  [ -e /opt/cni/bin/calico ] || return 0
  for family in -4 -6; do
    ip "$family" route flush proto bird 2>/dev/null || true
    ip "$family" route flush proto 80 2>/dev/null || true
  done
  for link in vxlan.calico vxlan-v6.calico wireguard.cali wg-v6.cali bpfin.cali; do
    ip link delete "$link" 2>/dev/null || true
  done
  nft delete table ip calico 2>/dev/null || true
  nft delete table ip6 calico 2>/dev/null || true
  remove_paths /etc/cni/net.d/{10-calico.conflist,calico-kubeconfig} /var/lib/calico \
    /var/log/calico /run/calico \
    /opt/cni/bin/{calico,calico-ipam,bandwidth,flannel,host-local,loopback,portmap,tuning}
}
