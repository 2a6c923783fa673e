# shellcheck shell=bash
# firewall: what may come to this host. Rules that are new are on trial until `confirm` says that they
# let SSH in; see lib/firewall.sh.
# Data: .role .network .nodes .control_planes .pod_cidrs .service_cidrs .ssh_ports .ssh .api_ports
#       .api .node_port_range .node_ports .allow

apply() { firewall_apply; }

destroy() { firewall_reset; }
