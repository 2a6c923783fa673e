# shellcheck shell=bash
# The container runtime: containerd, runc and the reference CNI plugins, each one pinned version
# in a folder of its own. Switching a version is switching a link.
# Data: .runtime {containerd runc cni_plugins pause cgroup_driver restrict_oom_score_adj
#                 images {registry: mirror} proxy {http https no_proxy}}
#       .registry {address ca username password}

runtime_config() {
  cat <<TOML
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$(data .runtime.pause)"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "/etc/containerd/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = $(data_json '.runtime.restrict_oom_score_adj // false')

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = $([ "$(data .runtime.cgroup_driver)" = systemd ] && echo true || echo false)
TOML
}

runtime_unit() {
  cat <<'UNIT'
[Unit]
Description=containerd
Documentation=https://containerd.io
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Environment=PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999
UNIT
  data '.runtime.proxy | select(. != null) | to_entries[]
        | "Environment=\(.key | ascii_upcase | if . == "NO_PROXY" then . else . + "_PROXY" end)=\(.value)"'
  printf '\n[Install]\nWantedBy=multi-user.target\n'
}

# The runtime's binaries, "link target" a line.
runtime_links() {
  local name containerd
  containerd=$PARTS/containerd/$(data .runtime.containerd)/bin
  for name in containerd containerd-shim-runc-v2 ctr; do
    echo "/usr/local/bin/$name $containerd/$name"
  done
  echo "/usr/local/bin/runc $PARTS/runc/$(data .runtime.runc)/runc"
  # Some pod networks bring these along.
  [ -n "$(data .runtime.cni_plugins)" ] || return 0
  for name in "$PARTS/cni-plugins/$(data .runtime.cni_plugins)"/*; do
    [ ! -x "$name" ] || echo "/opt/cni/bin/$(basename "$name") $name"
  done
}

# runtime_differs: whether applying would restart containerd under running pods.
runtime_differs() {
  systemctl is-active -q containerd || return 0
  same_file /etc/containerd/config.toml < <(runtime_config) || return 0
  same_file /etc/systemd/system/containerd.service < <(runtime_unit) || return 0
  [ "$(readlink /usr/local/bin/containerd)" = \
    "$PARTS/containerd/$(data .runtime.containerd)/bin/containerd" ] || return 0
  return 1
}

# Mirrors need no restart: containerd reads these files at each pull.
runtime_mirrors() {
  local registry mirror
  while IFS=$'\t' read -r registry mirror; do
    # `server` is the mirror too: a closed network must fail here and not ask the world.
    put_file "/etc/containerd/certs.d/$registry/hosts.toml" 0644 <<TOML || true
server = "$mirror"

[host."$mirror"]
  capabilities = ["pull", "resolve"]
TOML
  done < <(data '.runtime.images // {} | to_entries[] | [.key, .value] | @tsv')
}

# The private registry: as with mirrors, nothing restarts for it.
registry_apply() {
  local address folder
  address=$(data .registry.address)
  [ -n "$address" ] || return 0
  folder=/etc/containerd/certs.d/$address
  [ -z "$(data .registry.ca)" ] || put_file "$folder/ca.crt" 0644 < <(data .registry.ca) || true
  put_file "$folder/hosts.toml" 0600 <<TOML || true
server = "https://$address"

[host."https://$address"]
  capabilities = ["pull", "resolve"]
$([ -z "$(data .registry.ca)" ] || echo "  ca = \"$folder/ca.crt\"")
$(data '.registry | select(.username) | "\(.username):\(.password)" | @base64
        | "  [host.\"https://'"$address"'\".header]\n    Authorization = [\"Basic \(.)\"]"')
TOML
}

runtime_apply() {
  local link target restart=""
  while read -r link target; do
    # runc and the CNI plugins are started anew for each container; only containerd itself stays.
    if put_link "$link" "$target" && [ "$(basename "$link")" = containerd ]; then restart=restart; fi
  done < <(runtime_links)
  runtime_mirrors
  put_file /etc/containerd/config.toml 0644 < <(runtime_config) && restart=restart
  put_file /etc/systemd/system/containerd.service 0644 < <(runtime_unit) && restart=restart
  enable_service containerd "$restart"
  wait_until 60 "containerd answers" ctr version
}

# stop_pods: with no kubelet left that could do it.
stop_pods() {
  local container
  systemctl is-active -q containerd || return 0
  for container in $(ctr -n k8s.io tasks ls -q 2>/dev/null); do
    ctr -n k8s.io tasks kill -s SIGKILL "$container" 2>/dev/null || true
  done
}

runtime_reset() {
  stop_pods
  disable_service containerd
  pkill -9 -f '^/usr/local/bin/containerd-shim-runc-v2 ' 2>/dev/null || true
  awk '$2 ~ "^/run/containerd/" { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
  remove_paths /etc/containerd /etc/systemd/system/containerd.service /run/containerd \
    /usr/local/bin/{containerd,containerd-shim-runc-v2,ctr,runc}
  find /var/lib/containerd -mindepth 1 -delete 2>/dev/null || true
  find /opt/cni/bin -lname "$PARTS/*" -delete 2>/dev/null || true
}
