#!/bin/sh
# Waits until Rook has wiped the disks of a Ceph cluster that was deleted: one job for each node
# that had something of it, begun when the last daemon is gone.
# In: NODES, whose disks Ceph had; LIMIT in seconds. For busybox: no bash.
set -eu

# jobs: each job's node, and 1 once it has ended well.
jobs() {
  kubectl --request-timeout 30s get jobs -l app=rook-ceph-cleanup -o jsonpath=\
'{range .items[*]}{.spec.template.spec.nodeSelector.kubernetes\.io/hostname} {.status.succeeded}{"\n"}{end}'
}

# wiped: whether each of NODES has a job, and none is still at work, or has failed.
wiped() {
  seen=$(jobs) || return 1
  for node in $NODES; do
    echo "$seen" | grep -qxF "$node 1" || return 1
  done
  ! echo "$seen" | grep -qv ' 1$'
}

began=$(date +%s)
until wiped; do
  if [ "$(date +%s)" -ge "$((began + LIMIT))" ]; then
    echo "not all disks are wiped after $LIMIT s" >&2
    exit 1
  fi
  sleep "${PAUSE:-5}"
done
