# shellcheck shell=bash
# snapshot: on a hypervisor, before a guest's Kubernetes becomes another version: its disks as they are,
# copied whole while it runs. The newest copy stays.
# Data: .name .domain .pool .kubernetes the version that is to come

apply() {
  if [ "$(cat "$(copies)/kubernetes" 2>/dev/null)" != "$(data .kubernetes)" ]; then take; fi
}

destroy() {
  remove_paths "$(copies)"
  rm -f "$STATE/ledger/$STEP".{json,facts}
}

copies() { printf '%s/before-upgrade' "$(guest_folder)"; }

take() {
  local new
  new=$(copies).new
  remove_paths "$new"
  has_room
  mkdir -m 0711 "$new" || cannot_write "$new"
  if domain_is_off; then copy_at_rest "$new"; else copy_running "$new"; fi
  write_atomically "$new/kubernetes" 0644 < <(data .kubernetes)
  rm -rf "$(copies)"
  mv "$new" "$(copies)"
  changed "$(data .name) copied, as it is before $(data .kubernetes)"
}

# disks: a line for each, "TARGET PATH". A seed that the guest holds on to is none.
disks() {
  vir domblklist "$(data .domain)" --details | awk '$2 == "disk" && $3 != "vdzz" {print $3, $4}'
}

# The older copy stays until the new one is there. A copy rests on no image, so it holds that, too.
has_room() {
  local target path needed=0 free
  while read -r target path; do
    needed=$((needed + $(qemu-img info -U --backing-chain --output json "$path" | jq 'map(."actual-size") | add')))
  done < <(disks)
  free=$(df --output=avail -B1 "$(data .pool)" | tail -n 1)
  [ "$free" -gt "$needed" ] ||
    die "a copy of $(data .name) takes $((needed >> 20)) MiB, and $(data .pool) has $((free >> 20)) MiB free" \
      "make room there, or set snapshotBeforeUpgrade to false"
}

copy_at_rest() {
  local target path
  while read -r target path; do
    qemu-img convert -O qcow2 "$path" "$1/$(basename "$path")" || cannot_write "$1"
  done < <(disks)
}

# All disks at one moment, that of the start; the guest writes on meanwhile.
copy_running() {
  local said=$1/said
  backup_xml "$1" >"$1/backup.xml"
  vir backup-begin "$(data .domain)" "$1/backup.xml" >"$said" 2>&1 ||
    die "libvirt does not copy $(data .domain): $(tr '\n' ' ' <"$said")" "virsh domjobinfo $(data .domain)"
  within 3600 no_job || {
    vir domjobabort "$(data .domain)" || true
    die "waited an hour in vain for the copy of $(data .name)" "virsh domblkstat $(data .domain)"
  }
  LC_ALL=C vir domjobinfo "$(data .domain)" --completed >"$said" 2>&1 || true
  grep -q '^Job type: *Completed' "$said" ||
    die "the copy of $(data .domain) did not get to its end: $(tr '\n' ' ' <"$said")" \
      "journalctl -u libvirtd; then run the same command again"
  rm -f "$1/backup.xml" "$said"
}

no_job() { LC_ALL=C vir domjobinfo "$(data .domain)" | grep -q '^Job type: *None'; }

# backup_xml FOLDER
backup_xml() {
  local target path
  echo "<domainbackup mode='push'><disks>"
  while read -r target path; do
    printf "<disk name='%s' type='file'><driver type='qcow2'/><target file='%s'/></disk>\n" \
      "$target" "$1/$(basename "$path")"
  done < <(disks)
  echo "</disks></domainbackup>"
}
