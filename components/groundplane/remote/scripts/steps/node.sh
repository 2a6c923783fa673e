# shellcheck shell=bash
# node: everything that makes a host a member, changes it as one, and lets it leave. Whatever
# disturbs the node happens here, behind the gate, and nowhere else.
# Data: .name .address .role .state .kubernetes .runtime .endpoint .settings
#       .max_unavailable .certificates .encryption .ignore_preflight .immutable .backup
#       .machine of a guest: what its machine is; see release
#       .patched the round of patches that it is to have behind it; see patch    .hardening

apply() {
  # What starts with the machine is on its way.
  if reboot_done && joined; then wait_healthy; fi
  host_apply
  if joined; then change; else enter; fi
  machine_settled
  backup_apply
  record_facts
}

destroy() {
  if joined; then leave; fi
  kubernetes_reset
}

# ---- entering --------------------------------------------------------------------------------

enter() {
  endpoint_apply
  install_node
  # Waits for the node's range of pods while it joins: the sooner it is there, the sooner Ready.
  network_apply
  if is_control_plane; then
    enter_control_plane
  else
    enter_worker
  fi
  # Nobody waits behind this node for its pods: that it gets Ready is looked at once for all nodes.
  wait_serving
  jq -cS '{stack, cluster, immutable}' "$DATA" | write_atomically "$STATE/cluster.json" 0600
  settle
  write_atomically "$STATE/joined" 0600 < <(data .kubernetes)
  ! is_control_plane || gate_leave
}

enter_control_plane() {
  # The host that founded the cluster is a member already.
  if [ -e "$STATE/cluster.json" ] && [ -e "$ETCD_DATA/member" ]; then return 0; fi
  forget_half_join
  api_server_files
  join_control_plane
}

enter_worker() {
  forget_half_join
  join_worker
}

# ---- changing --------------------------------------------------------------------------------

change() {
  local found
  local -a reasons
  endpoint_apply
  mirrors_apply
  network_apply
  # In two steps: of a process substitution nobody would see that it failed half way.
  found=$(differences)
  mapfile -t reasons < <(printf %s "$found")
  if [ ${#reasons[@]} -gt 0 ] || [ -e "$STATE/disturbing" ]; then disturb "${reasons[@]}"; fi
  if [ "$(data .state)" = maintenance ]; then rest; else node_uncordon; fi
}

disturb() {
  local reason
  # What can fail for want of something outside fails before anybody is disturbed.
  [[ " $* " != *" version "* ]] || fetch_images
  ! is_control_plane || snapshot_before
  gate_enter disturb
  write_atomically "$STATE/disturbing" 0600 <<<"$*"
  # Pods outlive a restart of kubelet or containerd, not a change of their versions.
  [[ " $* " != *" version "* && " $* " != *" runtime "* ]] || node_drain
  for reason in "$@"; do
    "change_${reason//-/_}"
  done
  wait_healthy
  settle
  node_uncordon
  rm -f "$STATE/disturbing"
  gate_leave
}

rest() {
  [ "$(kube get node "$(data .name)" -o jsonpath='{.spec.unschedulable}')" != true ] || return 0
  gate_enter disturb
  node_drain
  gate_leave
}
