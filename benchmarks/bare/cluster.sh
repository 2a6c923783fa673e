#!/usr/bin/env bash
# cluster.sh SETTINGS guests|installed|up|upgrade: the same by kubeadm alone, for a lower bound.
#
# What can be done side by side is; nothing is looked at before, checked after or tried again.
# SETTINGS is a file of shell assignments, made by bare.py. What hosts say goes to its folder.
set -euo pipefail

settings=$1
here=$(dirname "$0")
# shellcheck source=/dev/null
. "$settings"
first=${CONTROL_PLANES[0]}
# Whatever ends this, nobody goes on behind it.
trap 'jobs -p | xargs -r kill 2>/dev/null || true' EXIT

# on HOST VERB [WORD...]: one verb of host.sh, or of guests.sh on a hypervisor, over SSH.
on() {
  local host=$1 script=host.sh log
  [ "$host" != "${HYPERVISOR:-}" ] || script=guests.sh
  shift
  log=$(dirname "$settings")/$host-$1.log
  # A command on the host must not read on in the script, so it gets an input of its own.
  { cat "$settings" "$here/$script" && echo "$* </dev/null"; } |
    timeout --foreground 900 ssh -F "$SSH_CONFIG" "$host" bash -s >>"$log" 2>&1 || {
    echo "$host: $*: failed, or did not end within 900 s. The end of $log:" >&2
    tail -n 20 "$log" >&2
    return 1
  }
  printf '%(%T)T %s: %s\n' -1 "$host" "$*"
}

# all NUMBER...: waits for these jobs, and fails with the first that failed.
all() {
  local job
  for job in "$@"; do wait "$job"; done
}

guests() {
  local host answering=()
  on "$HYPERVISOR" guests
  for host in "${!ADDRESS[@]}"; do
    answers "$host" &
    answering+=($!)
  done
  all "${answering[@]}"
}

# answers HOST: it lets somebody in.
answers() {
  local end=$((SECONDS + 900))
  until timeout 60 ssh -F "$SSH_CONFIG" -o ConnectTimeout=10 "$1" true </dev/null >/dev/null 2>&1; do
    ((SECONDS < end)) || {
      echo "$1: did not answer within 900 s" >&2
      return 1
    }
    sleep 0.2
  done
  printf '%(%T)T %s: answers\n' -1 "$1"
}

installed() {
  local host installing=()
  for host in "${!ADDRESS[@]}"; do
    on "$host" installed &
    installing+=($!)
  done
  all "${installing[@]}"
}

up() {
  local host joining=()
  local -A preparing
  for host in "${!ADDRESS[@]}"; do
    on "$host" prepare &
    preparing[$host]=$!
  done
  all "${preparing[$first]}"
  on "$first" found
  for host in "${WORKERS[@]}"; do
    all "${preparing[$host]}"
    on "$host" join &
    joining+=($!)
  done
  # One after the other: etcd takes one new member at a time.
  for host in "${CONTROL_PLANES[@]:1}"; do
    all "${preparing[$host]}"
    on "$host" join
  done
  all "${joining[@]}"
  on "$first" ready
}

upgrade() {
  local host how=apply fetching=()
  for host in "${!ADDRESS[@]}"; do
    on "$host" fetch kubeadm kubelet kubectl &
    fetching+=($!)
  done
  all "${fetching[@]}"
  for host in "${CONTROL_PLANES[@]}" "${WORKERS[@]}"; do
    on "$host" upgrade "$how"
    on "$first" drain "$host"
    on "$host" renew_kubelet
    on "$first" take_back "$host"
    how=node
  done
}

case $2 in
  guests | installed | up | upgrade) "$2" ;;
  *)
    sed -n '2p' "$0" >&2
    exit 2
    ;;
esac
