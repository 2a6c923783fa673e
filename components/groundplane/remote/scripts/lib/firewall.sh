# shellcheck shell=bash
# The firewall: what may come to this host, in a table of our own. What the host forwards, such as
# the traffic of pods and services, is not filtered, and the tables of kube-proxy, of the pod network
# and of others stay as they are.
# Rules that are new are on trial: the former ones come back unless a connection that began after
# them confirms them.
# Data: .role .network .nodes .control_planes .pod_cidrs .service_cidrs .ssh_ports .ssh .api_ports
#       .api .node_port_range .node_ports .allow {protocol port sources}

readonly FIREWALL=/etc/groundplane/firewall.nft
readonly FIREWALL_TRIAL=$RUN/firewall-trial.nft      # rules that nobody has confirmed yet
readonly FIREWALL_REFUSED=$RUN/firewall-refused.nft  # those that nobody could confirm
readonly FIREWALL_FORMER=$RUN/firewall-former.nft    # what was there before them
# Whoever moves the file of the trial first decides: this, or who confirms. Rather no rules than those.
readonly FIREWALL_BACK="mv $FIREWALL_TRIAL $FIREWALL_REFUSED &&
  { nft -f $FIREWALL_FORMER || nft delete table inet groundplane-firewall; }"
readonly FIREWALL_BEGAN=$RUN/firewall-began          # when they were loaded
readonly FIREWALL_SECONDS=90                         # for an engine with a hundred hosts at once
readonly FIREWALL_LEAVING=7200                       # seconds; a node that left the list may still leave

# ---- the rules -------------------------------------------------------------------------------

firewall_table() { firewall_lines | sed '/^$/d'; }

firewall_lines() {
  cat <<'NFT'
# What may come to this host. Made by groundplane, which repairs it.
table inet groundplane-firewall
delete table inet groundplane-firewall
table inet groundplane-firewall {
NFT
  firewall_sets nodes timeout '.nodes[]?'
  firewall_sets control_planes timeout '.control_planes[]?'
  firewall_sets pods interval '.pod_cidrs[]'
  firewall_sets services interval '.service_cidrs[]'
  local ports
  ports=$(data .node_port_range)
  cat <<NFT
  # A NodePort is sent on to a pod before the chain \`input\` could see it.
  chain prerouting {
    type filter hook prerouting priority dstnat - 10; policy accept;
    meta l4proto { tcp, udp, sctp } th dport $ports ct state new fib daddr type local jump node_ports
  }

  chain node_ports {
    iif lo accept
    ip saddr @nodes4 accept
    ip6 saddr @nodes6 accept
    ip saddr @pods4 accept
    ip6 saddr @pods6 accept
$(firewall_accept "" '.node_ports[]?' none)
    drop
  }

  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    meta l4proto { icmp, ipv6-icmp } accept
    # DHCPv6 answers a question to all from an address of its own.
    ip6 saddr fe80::/10 udp dport 546 accept
    # To a service: whoever sent it on has decided.
    ct status dnat accept
    ip daddr @services4 accept
    ip6 daddr @services6 accept
    ip saddr @pods4 accept
    ip6 saddr @pods6 accept
    # SSH
$(firewall_accept "tcp dport $(firewall_list '.ssh_ports[]')" '.ssh[]?')
    ip saddr @nodes4 jump from_nodes
    ip6 saddr @nodes6 jump from_nodes
$(firewall_of_control_planes)
    meta l4proto { tcp, udp, sctp } th dport $ports jump node_ports
    # What the stack allows.
$(firewall_allowed)
    counter comment "refused"
  }

  chain from_nodes {
    # kubelet, kube-proxy's health
    tcp dport { 10250, 10256 } accept
    # MetalLB's speakers of each other; BFD
    tcp dport 7946 accept
    udp dport { 3784, 3785, 4784, 7946 } accept
    # Ceph: monitors, daemons
    tcp dport { 3300, 6789, 6800-7300 } accept
$(firewall_pod_network)
  }
}
NFT
}

# firewall_sets NAME FLAG FILTER: one set for each family.
firewall_sets() {
  local family all elements
  all=$(data "$3")
  for family in 4 6; do
    elements=$(firewall_family "$family" <<<"$all" | sort -u | paste -sd, | sed 's/,/, /g')
    printf '  set %s%s {\n    type ipv%s_addr\n    flags %s\n' "$1" "$family" "$family" "$2"
    [ -z "$elements" ] || printf '    elements = { %s }\n' "$elements"
    printf '  }\n'
  done
}

# firewall_family 4|6 <addresses or ranges
firewall_family() { if [ "$1" = 4 ]; then grep -v -e : -e '^$'; else grep :; fi || true; }

# firewall_list FILTER: as nft writes a set.
firewall_list() { echo "{ $(data "$1" | paste -sd, | sed 's/,/, /g') }"; }

# firewall_accept MATCH FILTER [none]: from these ranges; where there are none from anywhere, or from
# nowhere.
firewall_accept() {
  local sources four six
  sources=$(data "$2")
  four=$(firewall_family 4 <<<"$sources" | paste -sd, | sed 's/,/, /g')
  six=$(firewall_family 6 <<<"$sources" | paste -sd, | sed 's/,/, /g')
  if [ -z "$four$six" ]; then
    [ "${3:-}" = none ] || echo "    $1 accept"
    return 0
  fi
  [ -z "$four" ] || echo "    ip saddr { $four }${1:+ $1} accept"
  [ -z "$six" ] || echo "    ip6 saddr { $six }${1:+ $1} accept"
}

# What comes to a control plane: the API from its clients, etcd and VRRP from the others.
firewall_of_control_planes() {
  is_control_plane || return 0
  local ports
  ports=$(firewall_list '.api_ports[]')
  cat <<NFT
    # the API
    ip saddr @nodes4 tcp dport $ports accept
    ip6 saddr @nodes6 tcp dport $ports accept
$(firewall_accept "tcp dport $ports" '.api[]?')
    # etcd, keepalived
    ip saddr @control_planes4 tcp dport { 2379, 2380 } accept
    ip6 saddr @control_planes6 tcp dport { 2379, 2380 } accept
    ip saddr @control_planes4 meta l4proto vrrp accept
    ip6 saddr @control_planes6 meta l4proto vrrp accept
NFT
}

# The network `plain` routes, and what is routed is forwarded. Others carry pods' packets in packets
# of the nodes.
firewall_pod_network() {
  [ "$(data .network)" != plain ] || return 0
  cat <<'NFT'
    # VXLAN, Geneve, WireGuard, IP in IP; BGP, Calico's Typha
    udp dport { 4789, 6081, 8472, 51820, 51821 } accept
    meta l4proto ipip accept
    tcp dport { 179, 5473 } accept
NFT
}

firewall_allowed() {
  local count index
  count=$(data '.allow // [] | length')
  for ((index = 0; index < count; index++)); do
    firewall_accept "$(data ".allow[$index] | \"\\(.protocol) dport \\(.port)\"")" \
      ".allow[$index].sources[]?"
  done
}

# firewall_rules <table: without those who come and go.
firewall_rules() { grep -v '^    elements = '; }

# Not by the name of the step, whose own unit has that.
firewall_unit() {
  cat <<'UNIT'
[Unit]
Description=groundplane's firewall
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
# Which may begin with `flush ruleset`, and takes ours with it.
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/groundplane/firewall.nft
ExecReload=/usr/sbin/nft -f /etc/groundplane/firewall.nft

[Install]
WantedBy=sysinit.target
UNIT
}

# ---- the table in the kernel -----------------------------------------------------------------

# firewall_loaded: the table as JSON; nothing where there is none.
firewall_loaded() { nft -s -j list table inet groundplane-firewall 2>/dev/null || true; }

# firewall_digest: of what is loaded, without handles and what runs out; as observe.sh works it out.
firewall_digest() {
  firewall_loaded | jq -cS '[.nftables[] | select(has("metainfo") | not)
    | if .set then .set.elem = ([.set.elem[]? | select(type == "string" or (has("elem") | not))] | sort)
      else . end | del(.. | objects | .handle)]' | digest
}

# firewall_leaving: who is among the nodes now and no longer wanted, as elements that run out. It may
# still be leaving the cluster, and until then it speaks to the others.
firewall_leaving() {
  firewall_loaded | jq -r --slurpfile data "$DATA" --argjson leaving "$FIREWALL_LEAVING" '
    .nftables[].set // empty | select((.flags // []) | index("timeout")) | .name as $set
    | ($data[0][$set[:-1]] // []) as $wanted | .elem[]?
    | if type == "object" then {val: .elem.val, expires: .elem.expires} else {val: ., expires: $leaving} end
    | .val as $who | select(.expires > 0 and ($wanted | index($who) | not))
    | "add element inet groundplane-firewall \($set) { \($who) timeout \(.expires)s }"'
}

# firewall_load FILE: in one transaction; a packet meets the old table or the new one.
firewall_load() {
  { cat "$1"; firewall_leaving; } >"$RUN/firewall-load.nft"
  nft -f "$RUN/firewall-load.nft" 2>"$RUN/nft" ||
    die "nft does not load the firewall: $(head -n 3 "$RUN/nft" | tr '\n' ' ')" "nft -c -f $1"
}

# ---- coming into force -----------------------------------------------------------------------

firewall_apply() {
  local wanted=$RUN/firewall-wanted.nft
  # Rules that still wait to be confirmed are no ground to stand on.
  firewall_back
  firewall_table >"$wanted"
  if [ -e "$FIREWALL" ] && cmp -s <(firewall_rules <"$wanted") <(firewall_rules <"$FIREWALL"); then
    firewall_keep "$wanted"
  else
    firewall_try "$wanted"
  fi
  fact file "$FIREWALL" 0600 "$(digest <"$wanted")"
  fact file /etc/systemd/system/groundplane-nftables.service 0644 "$(firewall_unit | digest)"
  fact unit groundplane-nftables enabled active
  fact table "inet groundplane-firewall" "$(firewall_digest)"
}

# firewall_keep FILE: rules that were confirmed, with the nodes as they are now. Nobody can be shut out
# by these.
firewall_keep() {
  local load=""
  [ "$(firewall_digest)" = "$(firewall_recorded)" ] || load=1
  if put_file "$FIREWALL" 0600 <"$1"; then load=1; fi
  [ -z "$load" ] || { firewall_load "$FIREWALL"; changed "firewall loaded"; }
  put_file /etc/systemd/system/groundplane-nftables.service 0644 < <(firewall_unit) || true
  enable_service groundplane-nftables
}

firewall_recorded() {
  awk -F'\t' '$1 == "table" { print $3 }' "$STATE/ledger/$STEP.facts" 2>/dev/null || true
}

# firewall_try FILE: what brings the former rules back is armed before the new ones are loaded, and
# needs nothing of ours.
firewall_try() {
  nft -c -f "$1" 2>"$RUN/nft" ||
    die "nft refuses the firewall's rules: $(head -n 3 "$RUN/nft" | tr '\n' ' ')" "nft -c -f $1"
  {
    printf 'table inet groundplane-firewall\ndelete table inet groundplane-firewall\n'
    nft list table inet groundplane-firewall 2>/dev/null || true
  } >"$FIREWALL_FORMER"
  cp "$1" "$FIREWALL_TRIAL"
  systemctl reset-failed groundplane-firewall-back.service 2>/dev/null || true
  systemd-run --quiet --collect --unit=groundplane-firewall-back --on-active="$FIREWALL_SECONDS" \
    --timer-property=AccuracySec=1s -- \
    /bin/sh -c "$FIREWALL_BACK" ||
    die "systemd does not promise to bring the former rules back" "systemctl status"
  firewall_load "$1"
  ticks | write_atomically "$FIREWALL_BEGAN" 0600
  changed "firewall loaded, on trial for $FIREWALL_SECONDS s"
}

# firewall_back: the former rules, where others are on trial.
firewall_back() {
  systemctl stop groundplane-firewall-back.timer 2>/dev/null || true
  [ ! -e "$FIREWALL_TRIAL" ] || sh -c "$FIREWALL_BACK" || true
  wait_until 10 "the former rules of the firewall are back" firewall_not_coming_back
}

firewall_not_coming_back() { ! systemctl is-active -q groundplane-firewall-back.service; }

# firewall_confirm: called over a connection that began under the new rules. One that stood before
# would prove nothing, since what is established is let through.
firewall_confirm() {
  local kept=$RUN/firewall-kept.nft began
  if [ -e "$FIREWALL_TRIAL" ]; then
    began=$(connection_began) || die "no sshd is among the parents of this call" \
      "only a connection by OpenSSH's sshd can confirm the firewall's new rules"
    [ "$began" -ge "$(cat "$FIREWALL_BEGAN")" ] ||
      die "this connection is older than the firewall's new rules, and proves nothing of them" \
        "close it, and run the same command again"
    if mv "$FIREWALL_TRIAL" "$kept" 2>/dev/null; then
      systemctl stop groundplane-firewall-back.timer
      put_file "$FIREWALL" 0600 <"$kept" || true
      put_file /etc/systemd/system/groundplane-nftables.service 0644 < <(firewall_unit) || true
      enable_service groundplane-nftables
    fi
  fi
  # By the facts of the other step: what it left there must have come into force.
  if [ ! -e "$FIREWALL" ] || STEP=firewall drifted "$FIREWALL"; then
    die "the firewall's new rules are taken back, and the former ones are in force: no new SSH connection came within $FIREWALL_SECONDS s" \
      "do cluster.firewall.ssh and the networks between let in the computer that runs Pulumi? Correct it, then run the same command again"
  fi
}

firewall_reset() {
  systemctl stop groundplane-firewall-back.timer 2>/dev/null || true
  disable_service groundplane-nftables
  remove_paths /etc/systemd/system/groundplane-nftables.service "$FIREWALL" "$FIREWALL_TRIAL" \
    "$STATE"/ledger/{firewall,confirm}.{json,facts}
  ! nft list table inet groundplane-firewall >/dev/null 2>&1 || {
    nft delete table inet groundplane-firewall
    changed "firewall removed"
  }
}
