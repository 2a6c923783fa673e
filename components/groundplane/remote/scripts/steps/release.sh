# shellcheck shell=bash
# release: on a guest, before its machine changes. One that is to restart goes out of service, behind
# the gate, and keeps its slot until the node step has it healthy again; one that is to be installed
# anew leaves the cluster.
# Data: .name .address .role .endpoint .max_unavailable
#       .machine {definition, image} the digests of what its machine is to be

apply() {
  joined && machine_changes || return 0
  if machine_image_changes; then
    leave
    rm -f "$STATE/joined"
  elif [ ! -e "$STATE/disturbing" ]; then
    out_of_service machine
  fi
}
