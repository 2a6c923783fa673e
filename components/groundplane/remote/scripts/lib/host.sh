# shellcheck shell=bash
# What Kubernetes asks of any host before a runtime or a kubelet comes: modules and sysctls. The
# proxy for downloads.
# Data: .settings {pod_cidrs} .runtime {proxy}

host_apply() {
  load_module overlay
  put_file /etc/modules-load.d/groundplane.conf 0644 <<<overlay || true
  host_sysctls | put_file /etc/sysctl.d/90-groundplane.conf 0644 || true
  local key value
  while IFS='= ' read -r key value; do set_sysctl "$key" "$value"; done < <(host_sysctls)
}

host_sysctls() {
  echo "net.ipv4.ip_forward = 1"
  if data '.settings.pod_cidrs[]' | grep -q :; then echo "net.ipv6.conf.all.forwarding = 1"; fi
}

host_reset() {
  local file
  remove_paths /etc/modules-load.d/groundplane.conf /etc/sysctl.d/90-groundplane.conf
  for file in "$STATE"/before/sysctl/*; do
    [ ! -e "$file" ] || sysctl -qw "$(basename "$file")=$(cat "$file")" || true
  done
}

# proxy_export: what is downloaded from here on goes through the proxy.
proxy_export() {
  local name value
  while IFS='=' read -r name value; do export "$name=$value"; done < <(data '
    .runtime.proxy // {} | to_entries[]
    | if .key == "no_proxy" then "no_proxy=\(.value)" else "\(.key)_proxy=\(.value)" end')
}
