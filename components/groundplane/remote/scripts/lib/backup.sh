# shellcheck shell=bash
# Snapshots of etcd: what takes them, when, and how many are kept. Where they go: lib/target.sh.
# Data: .endpoint .backup {schedule keep}; recipient and target are secret-bearing, and come by the step
# `secrets` as $BACKUP_SECRETS. Without them a snapshot stays here, unencrypted, for root only.

readonly BACKUP=$STATE/backup
readonly BACKUP_SECRETS=/etc/groundplane/backup.json # {recipient, target: {ssh | s3: {...}}, proxy}
readonly BACKUP_KEEP=/etc/groundplane/backup-keep
readonly KEEP_WITHOUT_SETTINGS=5
# CLUSTER-ID-TIME-HOST-REASON.DIGEST.db[.cms]; the digest is the file's own, so that one name says
# all that is needed to tell a whole file from a damaged one.
readonly SNAPSHOT_NAME='[a-z0-9-]+-[0-9a-f]{8}-[0-9]{8}T[0-9]{6}Z-[a-z0-9-]+-[a-z]+\.[0-9a-f]{16}\.db(\.cms)?'

backup_unit() {
  cat <<'UNIT'
[Unit]
Description=etcd snapshot: taken, encrypted, copied off this host
After=network-online.target kubelet.service

[Service]
Type=oneshot
ExecStart=/usr/local/lib/groundplane/current/backup timer
TimeoutStartSec=3600
Nice=10
IOSchedulingClass=idle
UNIT
}

backup_timer() {
  cat <<UNIT
[Unit]
Description=etcd snapshots by the clock

[Timer]
OnCalendar=$(data .backup.schedule)
# A host that was off at its time makes up for it.
Persistent=true

[Install]
WantedBy=timers.target
UNIT
}

backup_apply() {
  is_control_plane || return 0
  if [ -z "$(data .backup.schedule)" ]; then
    backup_stop
    return 0
  fi
  put_file "$BACKUP_KEEP" 0644 < <(data .backup.keep) || true
  put_file /etc/systemd/system/groundplane-backup.service 0644 < <(backup_unit) || true
  local restart=""
  put_file /etc/systemd/system/groundplane-backup.timer 0644 < <(backup_timer) && restart=restart
  enable_service groundplane-backup.timer "$restart"
}

backup_stop() {
  [ -e /etc/systemd/system/groundplane-backup.timer ] || return 0
  disable_service groundplane-backup.timer
  remove_paths /etc/systemd/system/groundplane-backup.{timer,service} "$BACKUP_KEEP"
  systemctl daemon-reload
}

backup_reset() {
  backup_stop
  remove_paths "$BACKUP"
}

# snapshot_before: while the cluster is still whole. Where this host's own etcd is what is broken,
# a healthy peer's will do.
snapshot_before() {
  local address urls=()
  while read -r address; do urls+=("$(etcd_url "$address")"); done < <(data '.endpoint.peers[]')
  /usr/local/lib/groundplane/current/backup now before "${urls[@]}"
}

# ---- one snapshot ----------------------------------------------------------------------------

backup_setting() { [ ! -e "$BACKUP_SECRETS" ] || jq -r "$1 // empty" "$BACKUP_SECRETS"; }

# The first part of the names of this cluster's snapshots: its name, and its id's first half.
snapshot_cluster() { jq -r '"\(.immutable.name)-\(.cluster[:8])"' "$STATE/cluster.json"; }

snapshot_host() { uname -n | cut -d. -f1 | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9-'; }

# snapshot_of_cluster CLUSTER <names: only that cluster's, oldest first.
snapshot_of_cluster() {
  { grep -xE "$SNAPSHOT_NAME" || true; } |
    awk -v start="$1-" 'index($0, start) == 1 && substr($0, length(start) + 1) ~ /^[0-9]+T/' |
    sort
}

# snapshot_surplus CLUSTER KEEP <names: those of that cluster beyond the newest KEEP.
snapshot_surplus() { snapshot_of_cluster "$1" | head -n "-$2"; }

# snapshot_intact FILE: etcd ends a snapshot with the SHA-256 of all before it. `etcdutl snapshot
# status` does not look at it (a flipped bit in a value passes), so this does.
snapshot_intact() {
  local size
  size=$(stat -c %s "$1")
  [ $((size % 512)) -eq 32 ] &&
    [ "$(head -c -32 "$1" | digest)" = "$(tail -c 32 "$1" | od -An -v -tx1 | tr -d ' \n')" ]
}

# snapshot_room ENDPOINT: a full disk would stop etcd itself, which often shares it with us.
snapshot_room() {
  local database free needed
  database=$(etcd_at "$1" endpoint status -w json | jq -r '.[0].Status.dbSize')
  # The plain and the encrypted file exist together for a moment; 512 MiB are etcd's to breathe.
  needed=$((2 * database + 512 * 1024 * 1024))
  free=$(df --output=avail -B1 "$BACKUP" | tail -n 1)
  [ "$free" -ge "$needed" ] || die "$BACKUP has $((free >> 20)) MiB free, a snapshot needs $((needed >> 20))" \
    "free space there, or lower backup.keep"
}

# snapshot_take REASON ENDPOINT: makes the file, and prints {name, file, bytes, sha256, revision}.
snapshot_take() {
  local reason=$1 endpoint=$2 work=$BACKUP/.work plain status sha256 file name kind=db
  rm -rf "$work" # what a killed run left
  (umask 077 && mkdir -p "$BACKUP" "$work")
  snapshot_room "$endpoint"
  plain=$work/snapshot.db
  etcd_at "$endpoint" --command-timeout 900s snapshot save "$plain" >"$work/log" 2>&1 ||
    die "etcd gives no snapshot: $(snapshot_said "$work/log")" "etcdctl endpoint health, and df -h $BACKUP"
  snapshot_intact "$plain" || die "the snapshot is not what etcd sent" "look at this host's disk and memory"
  # Its pages and their order; the digest says nothing of what etcd itself wrote wrongly.
  status=$(etcdutl snapshot status "$plain" -w json 2>"$work/log") ||
    die "the snapshot does not hold together: $(snapshot_said "$work/log")" "is this member's database damaged?"
  file=$plain
  if [ -n "$(backup_setting .recipient)" ]; then
    file=$work/snapshot.db.cms kind=db.cms
    snapshot_encrypt "$plain" "$file"
    rm -f "$plain"
  fi
  sync "$file"
  sha256=$(digest <"$file")
  name=$(snapshot_cluster)-$(date -u +%Y%m%dT%H%M%SZ)-$(snapshot_host)-$reason.${sha256:0:16}.$kind
  chmod 0600 "$file"
  mv "$file" "$BACKUP/$name"
  sync "$BACKUP"
  rm -rf "$work"
  jq -n --arg name "$name" --arg file "$BACKUP/$name" --arg sha256 "$sha256" \
    --argjson bytes "$(stat -c %s "$BACKUP/$name")" --argjson status "$status" \
    '{name: $name, file: $file, bytes: $bytes, sha256: $sha256, revision: $status.revision}'
}

# etcd's tools log JSON lines; what they mean is in the last one that is not.
snapshot_said() { grep -v '^{' "$1" | head -n 1; }

# snapshot_encrypt PLAIN TARGET: for the recipient alone, in an authenticated form (AES-256-GCM in
# CMS): no host can read it back, and one flipped bit makes decryption fail.
snapshot_encrypt() {
  local certificate=$BACKUP/.work/recipient.pem
  backup_setting .recipient >"$certificate"
  openssl cms -encrypt -binary -stream -aes-256-gcm -outform DER -in "$1" -out "$2" \
    -recip "$certificate" >"$BACKUP/.work/log" 2>&1 ||
    die "openssl does not encrypt the snapshot: $(tail -n 1 "$BACKUP/.work/log")" \
      "is backup.recipient a certificate with an RSA or EC key, and does the disk have room?"
}

snapshot_prune_here() {
  local keep=$KEEP_WITHOUT_SETTINGS name
  [ ! -e "$BACKUP_KEEP" ] || keep=$(cat "$BACKUP_KEEP")
  for name in $(find "$BACKUP" -maxdepth 1 -type f -printf '%f\n' |
    snapshot_surplus "$(snapshot_cluster)" "$keep"); do
    remove_paths "$BACKUP/$name"
  done
}
