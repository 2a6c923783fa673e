# shellcheck shell=bash
# Hardening: what a level asks of a host beside what Kubernetes needs. What that is stands in a table
# (see groundplane/spec/hardening.yaml); here stands how each kind of it is set, and taken back. It
# lies in files of our own names, so a lower level takes back by removing them.
# Data: .hardening {level exempt settings} .settings {admission {enforce namespaces}
#       api_server {args}}

HARDENING=$(dirname "${BASH_SOURCE[0]}")/hardening.tsv
readonly HARDENING
readonly HARDENED_SYSCTLS=/etc/sysctl.d/95-groundplane-hardening.conf
readonly HARDENED_MOUNTS=/etc/systemd/system/groundplane-mounts.service
readonly HARDENED_SSH=/etc/ssh/sshd_config.d/00-groundplane.conf

# What a host that only gets ready may be given, too: none of it disturbs a pod.
hardening_apply() {
  hardening_packages
  hardening_units
  hardening_sysctls
  own_file /etc/modprobe.d/groundplane.conf < <(hardening_modules) || true
  hardening_mounts
  ! own_file /etc/systemd/journald.conf.d/90-groundplane.conf < <(hardening_journald) ||
    systemctl restart systemd-journald
  own_file /etc/apt/apt.conf.d/52groundplane < <(hardening_apt) || true
  hardening_lines
  ssh_apply
}

hardening_reset() {
  systemctl stop groundplane-ssh-rollback.timer 2>/dev/null || true
  TEXTS[.hardening.level]=none
  hardening_apply
}

in_container() { systemd-detect-virt -cq; }

# hardening_rows KIND: KEY, VALUE and MORE of what the level asks of this host.
hardening_rows() { hardening_table "$1" | awk -F'\t' -v OFS='\t' '$7 != "no" { print $4, $5, $6 }'; }

# hardening_not_here KIND: the keys of what it asks, and what a container cannot have.
hardening_not_here() { hardening_table "$1" | awk -F'\t' '$7 == "no" { print $4 }'; }

hardening_table() {
  local shared=""
  ! in_container || shared=yes
  awk -F'\t' -v OFS='\t' -v kind="$1" -v level="$(data .hardening.level)" -v shared="$shared" \
    -v exempt=" $(data .hardening.exempt) " '
    $3 == kind && (level == "cis" || level == $2) && !index(exempt, " " $1 " ") {
      if (!shared) $7 = "-"
      print
    }' "$HARDENING"
}

# own_file PATH <content: there while there is anything in it. Returns 0 only when it changed.
own_file() {
  local text
  text=$(cat)
  if [ -n "$text" ]; then
    put_file "$1" 0644 <<<"$text"
  else
    [ -e "$1" ] || return 1
    remove_paths "$1"
  fi
}

# ---- packages and services -----------------------------------------------------------------------

hardening_packages() {
  local name dnf
  while IFS=$'\t' read -r name _ dnf; do
    command -v dpkg-query >/dev/null || name=$dnf
    [ "$name" = - ] || install_packages "$name"
  done < <(hardening_rows package)
}

hardening_units() {
  local names name running
  while IFS=$'\t' read -r names _; do
    running=""
    for name in $names; do ! systemctl is-active -q "$name" || running=${running:-$name}; done
    if [ -n "$running" ]; then
      enable_service "$running"
    elif [ "${names%% *}" = systemd-timesyncd ]; then
      hardening_time
    else
      enable_service "$names"
    fi
  done < <(hardening_rows unit)
}

# Where no package can be had the host is no worse than before: the check says so.
hardening_time() {
  local package=systemd-timesyncd service=systemd-timesyncd
  command -v dpkg-query >/dev/null || package=chrony service=chronyd
  if (install_packages "$package") >"$RUN/time" 2>&1; then
    enable_service "$service"
  else
    echo "nothing keeps the clock right, and $package cannot be installed"
  fi
}

# ---- the kernel ----------------------------------------------------------------------------------

hardening_sysctls() {
  local key value also is wanted=""
  while IFS=$'\t' read -r key value also; do
    is=$(sysctl -n "$key" 2>/dev/null) || continue
    [[ ",$also," != *",$is,"* ]] || value=$is
    wanted+="$key = $value"$'\n'
  done < <(hardening_rows sysctl)
  [ ! -e "$HARDENED_SYSCTLS" ] || while IFS='= ' read -r key value; do
    [[ $'\n'$wanted == *$'\n'"$key = "* ]] || sysctl_back "$key"
  done <"$HARDENED_SYSCTLS"
  own_file "$HARDENED_SYSCTLS" <<<"$wanted" || true
  while IFS='= ' read -r key value; do
    [ -z "$key" ] || set_sysctl "$key" "$value"
  done <<<"$wanted"
}

# sysctl_back KEY: to what stood there before us. The kernel keeps some for as long as it runs.
sysctl_back() {
  local before=$STATE/before/sysctl/$1
  [ -e "$before" ] || return 0
  if sysctl -qw "$1=$(cat "$before")" 2>/dev/null; then changed "sysctl $1 = $(cat "$before")"; fi
  rm -f "$before"
}

hardening_modules() {
  local name
  while IFS=$'\t' read -r name _; do
    printf 'install %s /bin/false\nblacklist %s\n' "$name" "$name"
  done < <(hardening_rows module)
}

# ---- mounts --------------------------------------------------------------------------------------

# A unit adds the options that are missing, at each start, and takes them away when it is stopped: the
# system's own table of mounts is not ours to write. Its comments say what was asked for.
hardening_mounts() {
  local wanted path options
  wanted=$(hardening_mount_options)
  if [ "$wanted" != "$(sed -n 's/^# //p' "$HARDENED_MOUNTS" 2>/dev/null)" ]; then
    disable_service groundplane-mounts
    if [ -n "$wanted" ]; then
      put_file "$HARDENED_MOUNTS" 0644 < <(hardening_mount_unit <<<"$wanted") || true
    else
      remove_paths "$HARDENED_MOUNTS"
    fi
    systemctl daemon-reload
  fi
  [ -n "$wanted" ] || return 0
  keep_file "$HARDENED_MOUNTS"
  enable_service groundplane-mounts
  # It is active although somebody remounted since.
  while read -r path options; do
    [ -z "$(missing_options "$path" "$options")" ] || systemctl restart groundplane-mounts
    fact mount "$path" "$options"
  done <<<"$wanted"
}

# What is asked of file systems of their own, a path a line.
hardening_mount_options() {
  local path options
  while read -r path options; do
    [ -z "$(mounted_with "$path")" ] || echo "$path $options"
  done < <(hardening_rows mount | awk -F'\t' '
    { all[$1] = all[$1] (all[$1] ? "," : "") $2 } END { for (path in all) print path, all[path] }' | sort)
}

hardening_mount_unit() {
  local path options missing
  local -a start=() stop=()
  printf '[Unit]\nDescription=mount options that hardening asks for\nAfter=local-fs.target\n'
  while read -r path options; do
    echo "# $path $options"
    missing=$(missing_options "$path" "$options")
    [ -n "$missing" ] || continue
    start+=("ExecStart=/usr/bin/mount -o remount,$missing $path")
    stop+=("ExecStop=/usr/bin/mount -o remount,${missing//no/} $path")
  done
  printf '\n[Service]\nType=oneshot\nRemainAfterExit=yes\n'
  if [ ${#start[@]} -gt 0 ]; then printf '%s\n' "${start[@]}" "${stop[@]}"; else echo 'ExecStart=/usr/bin/true'; fi
  printf '\n[Install]\nWantedBy=multi-user.target\n'
}

# mounted_with PATH: the options of the file system that is mounted there; nothing where none is.
mounted_with() { awk -v path="$1" '$2 == path { options = $4 } END { print options }' /proc/self/mounts; }

# missing_options PATH OPTIONS: those of them that it is not mounted with.
missing_options() {
  local is option found=""
  is=$(mounted_with "$1")
  for option in ${2//,/ }; do [[ ",$is," == *",$option,"* ]] || found+=,$option; done
  echo "${found#,}"
}

# ---- settings of the system ----------------------------------------------------------------------

hardening_journald() {
  local key value rows
  rows=$(hardening_rows journald)
  [ -n "$rows" ] || return 0
  echo '[Journal]'
  while IFS=$'\t' read -r key value _; do echo "$key=$value"; done <<<"$rows"
}

hardening_apt() {
  local key value
  command -v apt-get >/dev/null || return 0
  while IFS=$'\t' read -r key value _; do echo "$key \"$value\";"; done < <(hardening_rows apt)
}

hardening_lines() {
  local path needs
  while IFS=$'\t' read -r path needs; do
    [ "$needs" = - ] || [ -e "$needs" ] || continue
    own_file "$path" < <(hardening_rows line | awk -F'\t' -v path="$path" '$1 == path { print $2 }') ||
      continue
    case $path in
      /etc/audit/*) ! command -v augenrules >/dev/null || augenrules --load >"$RUN/audit" 2>&1 ||
        die "the kernel refuses rules of the audit log: $(tail -n 1 "$RUN/audit")" "augenrules --load" ;;
    esac
  done < <(awk -F'\t' -v OFS='\t' '$3 == "line" { print $4, $6 }' "$HARDENING" | sort -u)
}

# ---- SSH -----------------------------------------------------------------------------------------

# How long new settings wait for the connection that proves them. On a member the next step follows
# at once; a host that is not one yet waits for the cluster to be founded.
ssh_patience() { if joined; then echo 600; else echo 3600; fi; }

# Nobody is locked out for good: sshd checks the settings before it is told of them; connections that
# stand go on; and unless a new one comes through, a timer puts back what was there before. `run` stops
# the timer: who called it came by SSH.
ssh_apply() {
  local text before=$STATE/before/ssh.conf
  text=$(hardening_rows sshd | awk -F'\t' '{ print $1, $2 }')
  if [ -n "$text" ]; then
    grep -qsE '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/' /etc/ssh/sshd_config ||
      die "/etc/ssh/sshd_config includes nothing of /etc/ssh/sshd_config.d" \
        "put this into its first line: Include /etc/ssh/sshd_config.d/*.conf"
    ! same_file "$HARDENED_SSH" <<<"$text" || { keep_file "$HARDENED_SSH"; return 0; }
  fi
  if [ -z "$text" ]; then
    ! own_file "$HARDENED_SSH" <<<"" || ssh_reload
    return 0
  fi
  { [ ! -e "$HARDENED_SSH" ] || cat "$HARDENED_SSH"; } | write_atomically "$before" 0600
  own_file "$HARDENED_SSH" <<<"$text" || true
  # As sshd itself is started: its folder is made by the unit alone where that is begun by a socket.
  mkdir -p /run/sshd
  if ! sshd -t 2>"$RUN/sshd"; then
    ssh_back
    die "sshd refuses its new settings: $(tail -n 1 "$RUN/sshd")" \
      "exempt the check that asks for it, in cluster.hardening.exempt"
  fi
  systemctl stop groundplane-ssh-rollback.timer 2>/dev/null || true
  systemd-run --quiet --collect --unit=groundplane-ssh-rollback --on-active="$(ssh_patience)" \
    --timer-property=AccuracySec=1s /usr/local/lib/groundplane/current/ssh-rollback
  ssh_reload
  changed "SSH has new settings; they stay when the next connection comes through"
}

# ssh_back: the settings from before the last change.
ssh_back() { own_file "$HARDENED_SSH" <"$STATE/before/ssh.conf" || true; }

# Its name is the distribution's. One that is begun by a socket reads its settings at each start.
ssh_reload() { systemctl try-reload-or-restart ssh.service sshd.service 2>/dev/null || true; }

# ---- files of Kubernetes -------------------------------------------------------------------------

# hardening_modes: nobody but root owns or reads what only root is to.
hardening_modes() {
  local pattern most path is
  while IFS=$'\t' read -r pattern most _; do
    for path in $pattern; do
      [ -e "$path" ] || continue
      is=$(stat -c %a "$path")
      if [ $((8#$is & ~8#$most)) -ne 0 ]; then
        chmod "$(printf %o $((8#$is & 8#$most)))" "$path"
        changed "$path has no more rights than $most"
      fi
      [ "$(stat -c %u:%g "$path")" = 0:0 ] || { chown root:root "$path"; changed "$path is root's"; }
      fact mode "$path" "0$(stat -c %a "$path")"
    done
  done < <(hardening_rows mode)
}

# ---- what the API server reads -------------------------------------------------------------------

# Events are the one thing that any pod can make the API server write without end.
admission_configuration() {
  data_json '.settings.admission | select(.) | {
    apiVersion: "apiserver.config.k8s.io/v1", kind: "AdmissionConfiguration", plugins: [
      {name: "EventRateLimit", configuration: {
        apiVersion: "eventratelimit.admission.k8s.io/v1alpha1", kind: "Configuration", limits: [
          {type: "Namespace", qps: 50, burst: 500, cacheSize: 2000},
          {type: "SourceAndObject", qps: 10, burst: 50}]}},
      {name: "PodSecurity", configuration: {
        apiVersion: "pod-security.admission.config.k8s.io/v1", kind: "PodSecurityConfiguration",
        defaults: {enforce: .enforce, "enforce-version": "latest", audit: "restricted",
                   "audit-version": "latest", warn: "restricted", "warn-version": "latest"},
        exemptions: {usernames: [], runtimeClasses: [],
                     namespaces: (["kube-system"] + (.namespaces // []))}}}]}'
}

# Who says nothing of themselves: a kubelet, HAProxy and we ask whether an API server is well, and a
# new node reads which cluster it is about to join.
authentication_configuration() {
  data_json '.settings.api_server.args["authentication-config"]
    | select(. == "'"$OURS"'/authentication.json") | {
    apiVersion: "apiserver.config.k8s.io/v1", kind: "AuthenticationConfiguration",
    anonymous: {enabled: true, conditions: [
      {path: "/livez"}, {path: "/readyz"}, {path: "/healthz"},
      {path: "/api/v1/namespaces/kube-public/configmaps/cluster-info"}]}}'
}

# hardened_files: puts both in place, or takes them away.
hardened_files() {
  local name text
  for name in admission authentication; do
    text=$("${name}_configuration")
    if [ -n "$text" ]; then
      put_file "$OURS/$name.json" 0600 <<<"$text" || true
    else
      remove_paths "$OURS/$name.json"
    fi
  done
}

# hardened_files_differ: from what they are to say.
hardened_files_differ() {
  local name text
  for name in admission authentication; do
    text=$("${name}_configuration")
    if [ -n "$text" ]; then
      same_file "$OURS/$name.json" <<<"$text" || return 0
    else
      [ ! -e "$OURS/$name.json" ] || return 0
    fi
  done
  return 1
}
