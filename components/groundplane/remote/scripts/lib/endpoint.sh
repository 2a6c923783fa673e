# shellcheck shell=bash
# The API's address, which outlives any one control plane: HAProxy on each of them in front of
# all API servers, and keepalived (unicast VRRP) carrying the address to one that works.
# System services and no pods: they must stand before the first API server does.
# Data: .address .role .endpoint {mode address port router_id interface peers {name: address}}

endpoint_managed() { [ "$(data .endpoint.mode)" = managed ] && [ "$(data .role)" = control-plane ]; }

# The API's URL as clients and nodes use it.
endpoint_url() {
  data '.endpoint | "https://\(.address | if contains(":") then "[\(.)]" else . end):\(.port)"'
}

# The interface that carries the node's address, unless one is named.
endpoint_interface() {
  local named
  named=$(data .endpoint.interface)
  if [ -n "$named" ]; then echo "$named"; else
    ip -o address show | awk -v a="$(data .address)" '{ split($4, p, "/") } p[1] == a { print $2; exit }'
  fi
}

endpoint_haproxy() {
  cat <<CFG
global
  log stdout format raw local0 notice
  maxconn 8000

defaults
  mode tcp
  log global
  timeout connect 5s
  timeout client 4h
  timeout server 4h
  timeout check 3s

frontend kubernetes
  bind :::$(data .endpoint.port) v4v6
  default_backend control-planes

backend control-planes
$(endpoint_alone || endpoint_checks)
CFG
  data '.endpoint.peers | to_entries[]
        | "  server \(.key) \(if .value | contains(":") then "[\(.value)]" else .value end):6443"'
}

# With one control plane there is nothing to choose: one that is slow would only be asked more, and lose
# the connections that it serves.
endpoint_alone() { [ "$(data '.endpoint.peers | length')" -eq 1 ]; }

endpoint_checks() {
  cat <<'CFG'
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
CFG
}

endpoint_keepalived() {
  local self
  self=$(data .address)
  cat <<CFG
global_defs {
  enable_script_security
  script_user root
  vrrp_garp_master_refresh 60
}

$(endpoint_alone || endpoint_script)

vrrp_instance kubernetes {
  state BACKUP
  interface $(endpoint_interface)
  virtual_router_id $(data .endpoint.router_id)
  priority 100
  advert_int 1
  nopreempt
  unicast_src_ip $self
  unicast_peer {
$(data '.address as $self | .endpoint.peers[] | select(. != $self) | "    " + .')
  }
  virtual_ipaddress {
    $(data .endpoint.address)
  }
$(endpoint_alone || printf '  track_script {\n    haproxy\n  }')
}
CFG
}

endpoint_script() {
  cat <<CFG
vrrp_script haproxy {
  script "/usr/bin/timeout 2 /usr/bin/curl -sfk -o /dev/null https://localhost:$(data .endpoint.port)/readyz"
  interval 2
  fall 2
  rise 1
  # A weight and not a failure: where no API server answers at all, the address stays somewhere.
  weight -50
}
CFG
}

# Units of our own: a HAProxy that the machine already runs for something else stays as it is.
endpoint_unit() {
  local name=$1 start=$2 reload=$3
  cat <<UNIT
[Unit]
Description=$name for the Kubernetes API endpoint
After=network-online.target
Wants=network-online.target

[Service]
# Ready when they say so: a configuration that one refuses fails the step and not a later wait.
Type=notify
NotifyAccess=all
ExecStart=$start
ExecReload=/bin/kill -$reload \$MAINPID
Restart=always
RestartSec=2
KillMode=mixed
LimitNOFILE=20000

[Install]
WantedBy=multi-user.target
UNIT
}

# Changing peers reloads: connections that stand are kept, so this needs no gate.
endpoint_apply() {
  endpoint_managed || return 0
  endpoint_service haproxy USR2 \
    "/usr/sbin/haproxy -Ws -f /etc/groundplane/haproxy.cfg" < <(endpoint_haproxy)
  endpoint_service keepalived HUP \
    "/usr/sbin/keepalived --dont-fork --log-console -f /etc/groundplane/keepalived.cfg -p /run/groundplane-keepalived.pid -r /run/groundplane-vrrp.pid" \
    < <(endpoint_keepalived)
}

# endpoint_service NAME RELOAD_SIGNAL COMMAND <configuration
endpoint_service() {
  local name=$1 unit=groundplane-$1 reload="" restart=""
  put_file "/etc/groundplane/$name.cfg" 0600 && reload=1
  put_file "/etc/systemd/system/$unit.service" 0644 < <(endpoint_unit "$name" "$3" "$2") &&
    restart=restart
  [ -z "$reload" ] || [ -n "$restart" ] || ! systemctl is-active -q "$unit" || {
    systemctl reload "$unit" || die "$unit refuses its configuration" "journalctl -u $unit"
    changed "$unit reloaded"
  }
  enable_service "$unit" "$restart"
}

# What to do where a founding failed: perhaps the address is the cause.
endpoint_remedy() {
  if ! endpoint_managed || has_address; then echo "then run the same command again"; else
    echo "the endpoint's address $(data .endpoint.address) is not on this host: is it, or its router id," \
      "somebody else's in this network? journalctl -u groundplane-keepalived"
  fi
}

has_address() { [ -n "$(ip -o address show to "$(data .endpoint.address)")" ]; }

endpoint_reset() {
  local name
  for name in keepalived haproxy; do
    disable_service "groundplane-$name"
    remove_paths "/etc/systemd/system/groundplane-$name.service" "/etc/groundplane/$name.cfg"
  done
}
