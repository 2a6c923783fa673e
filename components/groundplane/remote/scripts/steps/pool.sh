# shellcheck shell=bash
# pool: what all guests of a stack on this hypervisor need: programs, the folder of their disks, and
# the images that they begin with, each fetched once.
# Data: .pool .packages .images [[url, digest]] .proxy

apply() {
  mapfile -t packages < <(data '.packages[]')
  install_packages "${packages[@]}"
  proxy_export
  # The emulator runs as a user of its own, which must get through to its own files.
  folder "$(data .pool)"
  folder "$(data .pool)/images"
  local url sum
  while IFS=$'\t' read -r url sum; do image "$url" "$sum"; done < <(data '.images[] | @tsv')
  forget_images
}

destroy() {
  FACTS=/dev/null forget_images
  rm -f "$STATE/ledger/$STEP".{json,facts}
  rmdir "$(data .pool)/images" "$(data .pool)" 2>/dev/null || true
}

folder() {
  [ "$(stat -c %a "$1" 2>/dev/null)" != 711 ] || return 0
  mkdir -p "$1" || cannot_write "$1"
  chmod 0711 "$1"
  changed "$1"
}

# image URL DIGEST: never changed once it is there, since the disks of guests rest on it.
image() {
  local path
  path=$(image_path "$2")
  if [ -e "$path" ] && ! has_digest "$path" "$2"; then
    die "$path is no longer what was fetched; guests that rest on it may be damaged" \
      "find out who wrote to it; remove it, and install the guests anew that rest on it"
  fi
  fetch "$1" "$2" "$path"
  chmod 0444 "$path"
  # What a fact holds is a SHA-256; a large file is not read once more where it is known.
  if [ "${#2}" -eq 64 ]; then fact file "$path" 0444 "$2"; else keep_file "$path"; fi
}

# Images that neither this stack nor another needs any more.
forget_images() {
  local path
  for path in "$(data .pool)"/images/*.qcow2; do
    [ -e "$path" ] || continue
    ! grep -qF "$path" "$FACTS" 2>/dev/null || continue
    ! grep -lF "$path" "$STATE"/ledger/pool.*.facts 2>/dev/null | grep -qv "/$STEP\.facts$" || continue
    ! grep -qF "\"$(basename "$path" .qcow2)\"" "$(data .pool)"/*/guest.json 2>/dev/null || continue
    remove_paths "$path"
  done
}
