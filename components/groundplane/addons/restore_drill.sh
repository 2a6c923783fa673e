#!/bin/sh
# Restores the newest good backup of a schedule into a scratch namespace, waits until the canary
# there has found its data whole, and writes down how long that took, as metrics in a ConfigMap.
# What it made is taken away again, whatever came of it.
# In: SCHEDULE, SPACE (Velero's namespace), SOURCE (the canary's), SCRATCH, RESULT (the ConfigMap),
# LIMIT in seconds.
# For busybox: no bash.
set -eu

kube() { kubectl --request-timeout 30s -n "$SPACE" "$@"; }

# later: whether the time is up.
later() { [ "$(date +%s)" -ge "$((began + LIMIT))" ]; }

# until_said WANTED COMMAND...: asks until the answer is one of WANTED, "A|B"; says it.
until_said() {
  wanted=$1
  shift
  while :; do
    said=$("$@" 2>/dev/null) || said=
    case "|$wanted|" in
      *"|$said|"*) [ -z "$said" ] || { echo "$said"; return 0; } ;;
    esac
    ! later || { echo "$said"; return 1; }
    sleep "${PAUSE:-5}"
  done
}

# seconds TIME: 2026-11-26T04:30:00Z since the epoch.
seconds() { date -u -d "$(echo "$1" | tr T ' ' | tr -d Z)" +%s; }

# newest: when it was completed, and the name, of the newest backup that is whole.
newest() {
  kube get backups.velero.io -l "velero.io/schedule-name=$SCHEDULE" -o jsonpath=\
'{range .items[?(@.status.phase=="Completed")]}{.status.completionTimestamp} {.metadata.name}{"\n"}{end}' |
    sort | tail -n 1
}

restore() {
  kube create -f - >/dev/null <<YAML
apiVersion: velero.io/v1
kind: Restore
metadata:
  name: $name
  namespace: $SPACE
  labels: {groundplane.io/drill: "$SCRATCH"}
spec:
  backupName: $1
  includedNamespaces: [$SOURCE]
  namespaceMapping: {$SOURCE: $SCRATCH}
  restorePVs: true
YAML
}

phase() { kube get restores.velero.io "$name" -o 'jsonpath={.status.phase}'; }

# The canary is available once its sum was right.
available() { kube -n "$SCRATCH" get deployment canary -o 'jsonpath={.status.availableReplicas}'; }

tidy() {
  kube delete restores.velero.io -l "groundplane.io/drill=$SCRATCH" --wait=false >/dev/null
  # Its volumes go with it, which takes a while.
  kube --request-timeout 0 delete namespace "$SCRATCH" --ignore-not-found --timeout 240s >/dev/null
}

# report SUCCESS [LINES]: the metrics of this drill, and of the last that ended well.
report() {
  last=${2:-$(kube get configmap "$RESULT" --ignore-not-found -o 'jsonpath={.data.last}')}
  {
    echo "apiVersion: v1"
    echo "kind: ConfigMap"
    echo "metadata: {name: $RESULT, namespace: $SPACE}"
    echo "data:"
    echo "  last: |"
    echo "$last" | sed 's/^/    /'
    echo "  metrics.txt: |"
    {
      gauge success "Whether the last drill ended well." "$1"
      gauge timestamp_seconds "When the last drill ended." "$(date +%s)"
      echo "$last"
    } | sed 's/^/    /'
  } | kube apply --server-side --force-conflicts -f - >/dev/null
}

gauge() {
  echo "# HELP groundplane_restore_drill_$1 $2"
  echo "# TYPE groundplane_restore_drill_$1 gauge"
  echo "groundplane_restore_drill_$1 $3"
}

# fail WHY: ends the drill. `finish` does the rest.
fail() {
  echo "the drill failed: $1" >&2
  exit 1
}

finish() {
  status=$?
  trap - EXIT
  [ "$status" -eq 0 ] || report 0 || true
  tidy || echo "could not take away namespace $SCRATCH" >&2
  exit "$status"
}

began=$(date +%s)
name=$SCRATCH-$began
trap finish EXIT
trap 'exit 143' TERM INT

tidy || fail "what an earlier drill left in namespace $SCRATCH does not go"
found=$(newest) || fail "Velero's backups cannot be listed"
[ -n "$found" ] || fail "schedule $SCHEDULE has no backup that is whole"
completed=${found%% *} backup=${found#* }
echo "restoring $backup of $completed into namespace $SCRATCH"
restored=$(date +%s)
restore "$backup" || fail "Velero takes no restore"
ended=$(until_said 'Completed|PartiallyFailed|Failed|FailedValidation' phase) ||
  fail "the restore is ${ended:-not begun} after $LIMIT s"
[ "$ended" = Completed ] || fail "the restore is $ended; Velero's log says why"
until_said 1 available >/dev/null || fail "the data of $backup are not whole after $LIMIT s"
took=$(($(date +%s) - restored))
age=$((restored - $(seconds "$completed")))
report 1 "$(
  gauge last_success_timestamp_seconds "When a drill ended well for the last time." "$(date +%s)"
  gauge duration_seconds "How long restoring took." "$took"
  gauge backup_age_seconds "How old the backup was that was restored." "$age"
)"
echo "restored and checked in $took s; the backup was $age s old"
