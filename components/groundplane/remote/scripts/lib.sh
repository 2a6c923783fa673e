# shellcheck shell=bash
# What every step is made of: facts and the operations that make them true.
#
# An operation compares first, changes only what differs, prints one line for each change and
# nothing otherwise, and records the fact it leaves behind. The facts of a step are what the next
# observation of this host checks; see ledger_commit.

readonly STATE=/var/lib/groundplane    # ledger and what was applied; root only
readonly RUN=/run/groundplane          # a step's data while it runs; memory only, it may be secret
readonly PARTS=/opt/groundplane        # downloaded parts, one folder a version
FACTS=${FACTS:-/dev/null}              # where the running step collects its facts

# ---- saying things -------------------------------------------------------------------------

changed() { printf 'changed %s\n' "$*"; }

# die CAUSE [REMEDY]: end the step. The host's name comes first, as the reader has many hosts.
die() {
  printf '%s: %s\n' "$(uname -n)" "$1" >&2
  [ $# -lt 2 ] || printf 'Remedy: %s\n' "$2" >&2
  exit 1
}

fact() { local IFS=$'\t'; printf '%s\n' "$*" >>"$FACTS"; }

# ---- the step's data -----------------------------------------------------------------------

# What the step's JSON says under paths of plain words, such as .settings.network. Read once: a step
# asks a hundred times, and each start of jq 1.6 (Debian 12) takes a processor for 30 ms.
declare -gA TEXTS=()

# read_data: the step's JSON is in $DATA from now on.
read_data() {
  local path text
  TEXTS=()
  while IFS= read -r -d '' path && IFS= read -r -d '' text; do TEXTS[$path]=$text; done < <(
    jq -j '. as $all | paths(scalars) | select(all(.[]; type == "string" and test("^[a-z_]+$")))
      | (map(".\(.)") | add) + "\u0000", (. as $path | $all | getpath($path) | tostring) + "\u0000"' "$DATA")
  wait $! || die "the step's data are no JSON"
}

# data FILTER: one value of the step's JSON, as text; nothing when absent.
data() {
  if [[ $1 =~ ^(\.[a-z_]+)+$ ]]; then
    [ -z "${TEXTS[$1]:-}" ] || printf '%s\n' "${TEXTS[$1]}"
  else
    jq -r "$1 // empty" "$DATA"
  fi
}

# data_json FILTER: the same as compact JSON with sorted keys.
data_json() { jq -cS "$1" "$DATA"; }

# digest: of standard input, as bare hexadecimal.
digest() { sha256sum | cut -d' ' -f1; }

# has_digest FILE DIGEST: SHA-256, or SHA-512 where its maker publishes no other; the length tells.
has_digest() {
  local sum=sha256sum
  [ "${#2}" -eq 64 ] || sum=sha512sum
  [ "$("$sum" <"$1" | cut -d' ' -f1)" = "$2" ]
}

# applied NAME: the digest that a previous run left for this group of settings; empty when none.
applied() { cat "$STATE/applied/$1" 2>/dev/null || true; }

# mark_applied NAME DIGEST: to be called only once the settings are really in force.
mark_applied() { write_atomically "$STATE/applied/$1" 0600 <<<"$2"; }

# ---- the distribution ----------------------------------------------------------------------

# distribution: the one that the step names, else the one that this host is prepared for. Those who
# prepared their hosts before there were two have no other.
distribution() {
  local named
  named=$(data .distribution)
  [ -n "$named" ] || named=$(cat "$STATE/distribution" 2>/dev/null) || named=kubeadm
  echo "$named"
}

# load: the other libraries, and what is the distribution's own.
load() {
  local library scripts
  scripts=$(dirname "${BASH_SOURCE[0]}")
  for library in "$scripts"/lib/*.sh "$scripts/distributions/$(distribution).sh"; do
    # shellcheck source=/dev/null
    . "$library"
  done
}

# ---- files ---------------------------------------------------------------------------------

# write_atomically PATH MODE <content: readers and power cuts see the old file or the new one.
write_atomically() {
  local path=$1 mode=$2 temporary=""
  if ! mkdir -p "$(dirname "$path")" || ! temporary=$(mktemp "$(dirname "$path")/.groundplane.XXXXXX") ||
    ! cat >"$temporary"; then
    rm -f "$temporary"
    cannot_write "$path"
  fi
  chmod "$mode" "$temporary"
  sync "$temporary"
  mv -f "$temporary" "$path"
}

# The command that failed said above which of the two it is.
cannot_write() {
  die "cannot write $1: no space left, or a read-only file system" \
    "df -h $(dirname "$1"); grep ' ro,' /proc/mounts"
}

# put_file PATH MODE <content: returns 0 only when it changed something, so callers can restart.
put_file() {
  local path=$1 mode=$2 wanted is
  wanted=$(mktemp "$RUN/put.XXXXXX")
  cat >"$wanted"
  fact file "$path" "$mode" "$(digest <"$wanted")"
  is=$(stat -c %a "$path" 2>/dev/null || true)
  if [ "0$is" = "$mode" ] && cmp -s "$wanted" "$path"; then
    rm -f "$wanted"
    return 1
  fi
  write_atomically "$path" "$mode" <"$wanted"
  rm -f "$wanted"
  changed "$path"
}

# same_file PATH <content: whether the file already says this; for deciding before disturbing.
same_file() { cmp -s - "$1"; }

# keep_file PATH: records a file that another program wrote for us, so that drift in it is seen.
keep_file() { fact file "$1" "0$(stat -c %a "$1")" "$(digest <"$1")"; }

# put_link PATH TARGET
put_link() {
  fact link "$1" "$2"
  [ "$(readlink "$1" 2>/dev/null)" != "$2" ] || return 1
  mkdir -p "$(dirname "$1")"
  ln -sfn "$2" "$1.groundplane" && mv -Tf "$1.groundplane" "$1"
  changed "$1 -> $2"
}

remove_paths() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    rm -rf --one-file-system "$path"
    changed "$path removed"
  done
}

# ---- kernel --------------------------------------------------------------------------------

set_sysctl() {
  fact sysctl "$1" "$2"
  local is
  is=$(sysctl -n "$1" 2>/dev/null | tr '\t' ' ') ||
    die "this kernel has no setting $1" "is the kernel module behind it loaded?"
  [ "$is" != "$2" ] || return 0
  # What stood there before us comes back when the host is reset.
  [ -e "$STATE/before/sysctl/$1" ] || write_atomically "$STATE/before/sysctl/$1" 0600 <<<"$is"
  sysctl -qw "$1=$2" || die "cannot set $1 to $2" "sysctl -w $1=$2"
  changed "sysctl $1 = $2"
}

load_module() {
  fact module "$1"
  # A machine that is a container has its kernel's modules already, and no right to load more.
  [ -d "/sys/module/$1" ] || grep -qw "$1" /proc/filesystems || modprobe -q "$1" ||
    die "the kernel module $1 is missing" "install the distribution's full kernel package"
}

# ---- services ------------------------------------------------------------------------------

# load_unit NAME: starts at boot, and is for systemd what its file says. To enable one reads it, too.
load_unit() {
  if ! systemctl is-enabled -q "$1" 2>/dev/null; then
    systemctl enable -q "$1"
  elif [ "$(systemctl show --property NeedDaemonReload --value "$1")" = yes ]; then
    systemctl daemon-reload
  fi
}

# enable_service NAME [restart]: running and starting at boot; restarted only when asked.
enable_service() {
  fact unit "$1" enabled active
  load_unit "$1"
  if [ "${2:-}" = restart ] && systemctl is-active -q "$1"; then
    systemctl restart "$1" || die "$1 does not restart" "journalctl -u $1"
    changed "$1 restarted"
  elif ! systemctl is-active -q "$1"; then
    systemctl start "$1" || die "$1 does not start" "journalctl -u $1"
    changed "$1 started"
  fi
}

disable_service() {
  systemctl cat "$1" >/dev/null 2>&1 || return 0
  systemctl disable -q --now "$1" 2>/dev/null || true
  changed "$1 stopped"
}

# ---- waiting -------------------------------------------------------------------------------

# within SECONDS COMMAND...: whether it came true in that time.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

# wait_until SECONDS WHAT COMMAND...: the only way to wait; it names what did not happen.
wait_until() {
  local seconds=$1 what=$2
  shift 2
  within "$seconds" "$@" ||
    die "waited $seconds s in vain: $what" "run by hand to see why: $*"
}

# ---- parts from outside --------------------------------------------------------------------

# fetch URL DIGEST TARGET: a verified file or nothing. Resumes, retries, and never leaves a
# half-written or unverified file under the target's name.
fetch() {
  local url=$1 sum=$2 target=$3 part=$3.part try
  [ ! -e "$target" ] || return 0
  mkdir -p "$(dirname "$target")" || cannot_write "$target"
  for try in 1 2 3 4; do
    # --fail turns 429 and 5xx into errors; -C - resumes what an earlier try left.
    curl --fail --silent --show-error --location --connect-timeout 10 --max-time 900 \
      --retry 3 --retry-connrefused -C - -o "$part" "$url" || {
      # 33 = the server cannot resume, 22 with a complete file = nothing left to fetch.
      case $? in
        23) cannot_write "$target" ;;
        33) rm -f "$part" ;;
      esac
    }
    if [ -e "$part" ] && has_digest "$part" "$sum"; then
      sync "$part"
      mv "$part" "$target"
      changed "$(basename "$target") fetched"
      return 0
    fi
    # A complete file with the wrong digest would be resumed for ever: begin again.
    [ "$try" -lt 2 ] || rm -f "$part"
  done
  die "$url: not to be had with the digest $sum" \
    "is the mirror reachable from this host, and does it hold the official file?"
}

# apt ARGUMENTS...: waits for whoever holds one of its locks; unattended-upgrades does for minutes.
# Its own timeout covers the lock of installing, not that of the package lists.
apt() {
  local deadline=$((SECONDS + 300))
  # needrestart, where it is there, would start services anew by itself.
  until DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get -qq -o DPkg::Lock::Timeout=300 "$@" \
    >"$RUN/apt" 2>&1; do
    grep -q 'Could not get lock' "$RUN/apt" && [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 1
  done
}

# install_packages NAME...: from the system's own package manager, only what is missing.
install_packages() {
  local name missing=()
  if command -v dpkg-query >/dev/null; then
    for name in "$@"; do
      dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q ' installed$' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] || {
      apt update && apt -y --no-install-recommends install "${missing[@]}"
    } || die "cannot install ${missing[*]}: $(tail -n 3 "$RUN/apt" | tr '\n' ' ')" \
      "apt-get install ${missing[*]}"
  else
    for name in "$@"; do rpm -q --quiet "$name" || missing+=("$name"); done
    [ ${#missing[@]} -eq 0 ] || timeout 600 dnf -q -y install "${missing[@]}" ||
      die "cannot install ${missing[*]}" "dnf install ${missing[*]}"
  fi
  for name in "$@"; do fact package "$name"; done
  [ ${#missing[@]} -eq 0 ] || changed "installed ${missing[*]}"
}

# ---- the ledger ----------------------------------------------------------------------------

# ledger_commit: what was applied, with which facts; written last, so that a step which did not
# end is seen by the next observation as not done. A step whose data name a generation leaves that
# too: whoever looks can tell which one is in force.
ledger_commit() {
  local step=$1
  write_atomically "$STATE/ledger/$step.facts" 0600 < <(sort -u "$FACTS")
  jq -c --arg at "$(date -u +%FT%TZ)" --arg digest "$(jq -cS 'del(.token)' "$DATA" | digest)" \
    '{stack, cluster, step, revision, token, digest: $digest, at: $at}
     + if .generation then {generation} else {} end' "$DATA" |
    write_atomically "$STATE/ledger/$step.json" 0600
}

# drifted PATH: whether a file that this step recorded is no longer what it was.
drifted() {
  local recorded
  # shellcheck disable=SC2153 # STEP is set by whoever loads this
  recorded=$(awk -F'\t' -v p="$1" '$1 == "file" && $2 == p { print $4 }' \
    "$STATE/ledger/$STEP.facts" 2>/dev/null)
  [ -n "$recorded" ] && [ "$(digest <"$1" 2>/dev/null)" != "$recorded" ]
}
