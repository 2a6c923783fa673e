# shellcheck shell=bash
# A node that leaves the cluster, or its service while its machine is shut off.
# Data: .name .address .role .endpoint .max_unavailable .machine

leave() {
  local name credentials=$RUN/leaving.conf
  name=$(data .name)
  gate_enter leave
  node_drain
  leaving_credentials "$credentials"
  if is_control_plane; then
    etcd_remove_own
    # From here on the address must be carried by somebody whose API server will stay.
    endpoint_reset
  fi
  stop_node
  export KUBECONFIG=$credentials
  wait_until 60 "the other API servers answer" kube get --raw /readyz
  kube delete node "$name" --ignore-not-found >/dev/null
  changed "node $name left the cluster"
  gate_leave
  rm -f "$credentials" "$RUN/leaving.pem"
  unset KUBECONFIG
}

# out_of_service WHY: drained behind the gate, and it keeps its slot until the node step has it healthy
# again.
out_of_service() {
  [ -e "$STATE/disturbing" ] || ! is_control_plane || snapshot_before
  gate_enter disturb
  write_atomically "$STATE/disturbing" 0600 <<<"$1"
  node_drain
}

# ---- a guest whose machine becomes another ---------------------------------------------------

# machine_changes: whether the machine of this node is about to be another than it was when the node
# was last brought into service.
machine_changes() {
  [ -e "$STATE/machine" ] && [ "$(cat "$STATE/machine")" != "$(data_json .machine)" ]
}

machine_settled() {
  [ -n "$(data_json '.machine // empty')" ] || return 0
  data_json .machine | write_atomically "$STATE/machine" 0600
}

machine_image_changes() { [ "$(jq -r .image "$STATE/machine")" != "$(data .machine.image)" ]; }
