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
}
