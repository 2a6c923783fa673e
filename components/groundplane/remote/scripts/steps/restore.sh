# shellcheck shell=bash
# restore: the ways back when etcd's quorum or all control planes are gone. Only `groundplane
# restore` asks for it, never an update.
# apply: the cluster of a snapshot, on this blank host; its identity was put here by `secrets`.
#   Data: as bootstrap's, and .snapshot (a file on this host), .blank [name of a host without data]
# refound: on a surviving member, a cluster of it alone from what its database holds.
#   Data: as the node step's

# shellcheck source-path=SCRIPTDIR source=bootstrap.sh
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"

readonly RESTORING=$STATE/restoring       # while it is there, this host holds half a restore
# Watchers know the cluster at revisions that the snapshot never saw. Far above them all, they
# notice that what they know has ended, and read anew.
readonly BUMP=1000000000

apply() {
  refuse_foreign
  [ ! -e "$ETCD_DATA/member" ] || die "$ETCD_DATA holds a member already" "groundplane restore --wipe clears it"
  [ "$(cluster_id)" = "$(data .cluster)" ] || die "the CA on this host is not that of the cluster $(data .cluster)"
  write_atomically "$RESTORING" 0600 < <(data .snapshot)
  etcd_from "$(data .snapshot)"
  found
  secrets_readable
  release
  local name
  for name in $(data '.blank[]'); do
    # Whatever ran there is gone; a Node that looks alive would keep its pods from moving on, and
    # its host from joining.
    kube delete node "$name" --ignore-not-found >/dev/null
    changed "node $name deleted: its host is blank"
  done
  remove_paths "$(data .snapshot)" "$RESTORING"
}

# etcd_from DATABASE [OPTION]: this host's member, alone in a cluster with a new id, so that no
# member of the old one can ever talk to it.
etcd_from() {
  local database=$1 name peer new=$ETCD_DATA/restored.new
  shift
  name=$(data .name)
  peer=$(etcd_url "$(data .address)")
  peer=${peer%:2379}:2380
  rm -rf "$new"
  etcdutl snapshot restore "$database" --data-dir "$new" --name "$name" \
    --initial-cluster "$name=$peer" --initial-advertise-peer-urls "$peer" \
    --initial-cluster-token "groundplane-$(head -c 8 /dev/urandom | hex)" \
    --bump-revision "$BUMP" --mark-compacted "$@" >"$RUN/etcdutl" 2>&1 ||
    die "etcdutl does not restore $database: $(snapshot_said "$RUN/etcdutl")" "try another snapshot"
  sync -f "$new"
  mv "$new/member" "$ETCD_DATA/member"
  rm -rf "$new"
  changed "etcd member $name from $database"
}

# A wrong key shows only when a Secret is read.
secrets_readable() {
  kube get secrets -A -o name >/dev/null 2>"$RUN/secrets" ||
    die "the snapshot's Secrets cannot be read: $(tail -n 1 "$RUN/secrets")" \
      "take the identity of the cluster that wrote the snapshot"
}

# release: who was being disturbed when the data were written is disturbed no more.
# (The cluster's root certificate, which is there too, is put back by Kubernetes.)
release() { kube -n "$GATE_NAMESPACE" delete configmaps --all >/dev/null; }

# ---- from a survivor -------------------------------------------------------------------------

refound() {
  local aside=$STATE/refounding old
  joined || [ -e "$aside" ] || die "this host is no member of the cluster"
  mkdir -p "$aside"
  [ -e "$aside/old" ] || write_atomically "$aside/old" 0600 <<<"$ETCD_DATA/before-$(date -u +%Y%m%dT%H%M%SZ)"
  old=$(cat "$aside/old")
  # Stopped in order, it writes all that it applied into its database.
  etcd_stop "$aside"
  [ -e "$old" ] || mv "$ETCD_DATA/member" "$old"
  rm -rf "$ETCD_DATA/member"
  etcdutl snapshot status "$old/snap/db" >"$RUN/etcdutl" 2>&1 ||
    die "the database of this member does not hold together: $(snapshot_said "$RUN/etcdutl")" \
      "try another survivor, or restore a snapshot; the old data are in $old"
  etcd_from "$old/snap/db" --skip-hash-check
  etcd_start "$aside"
  wait_until 180 "etcd is healthy, alone" alone
  wait_until 300 "the API server is ready" api_server_ready
  release
  rm -rf "$aside"
  changed "etcd founded anew from this member; the data before are in $old"
}

alone() {
  etcd_at "$(etcd_here)" endpoint health >/dev/null 2>&1 &&
    [ "$(etcd_at "$(etcd_here)" member list | wc -l)" -eq 1 ]
}
