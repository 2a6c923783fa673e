# shellcheck shell=bash
# prepare: everything a node needs and nothing that disturbs one. Packages and the pinned parts,
# each in a folder of its version. On a host that is not a member yet there is nothing to disturb,
# so kernel settings are made, the runtime starts and the first images come, while others bootstrap.
# Data: .parts {NAME: {version, files: {FILE: [url, sha256]}}} .packages .runtime .settings .role
#       .kubernetes .hardening .distribution (of a host that is not kubeadm's)

apply() {
  [ -z "$(data .distribution)" ] || put_file "$STATE/distribution" 0644 < <(data .distribution) || true
  mapfile -t packages < <(data '.packages[]')
  install_packages "${packages[@]}"
  hardening_apply
  proxy_export
  local name version file url sha256
  while IFS=$'\t' read -r name version file url sha256; do
    part "$name" "$version" "$file" "$url" "$sha256"
  done < <(data '.parts | to_entries[] | .key as $name | .value
                 | .version as $version | .files | to_entries[]
                 | [$name, $version, .key, .value[0], .value[1]] | @tsv')
  # What a node rests on is the node step's to watch and to repair.
  joined || FACTS=/dev/null begin
}

destroy() {
  hardening_reset
  remove_paths "$PARTS" "$STATE/distribution"
}

# part NAME VERSION FILE URL SHA256: a binary as it is, an archive unpacked.
part() {
  local folder=$PARTS/$1/$2 file=$3 target=$PARTS/$1/$2/$3
  if [ "$file" = archive ]; then
    fact file "$PARTS/$1/$2.archive" 0644 "$5"
    [ ! -d "$folder" ] || [ ! -e "$PARTS/$1/$2.archive" ] || return 0
    fetch "$4" "$5" "$PARTS/$1/$2.archive"
    chmod 0644 "$PARTS/$1/$2.archive"
    unpack "$PARTS/$1/$2.archive" "$folder" "$1"
  else
    [ "$file" != binary ] || target=$folder/$1
    fact file "$target" 0755 "$5"
    # Another program may have written to it, or a disk may have lied.
    if [ -e "$target" ] && [ "$(digest <"$target")" != "$5" ]; then rm -f "$target"; fi
    fetch "$4" "$5" "$target"
    chmod 0755 "$target"
  fi
}

# unpack ARCHIVE FOLDER NAME: into a folder that appears only when it is complete.
unpack() {
  local strip=0
  # etcd's archive has a top folder; containerd's and the plugins' have none worth losing.
  [ "$3" != etcd ] || strip=1
  rm -rf "$2" "$2.new"
  mkdir -p "$2.new"
  # tar says the same of each file; the first is enough.
  tar -xzf "$1" -C "$2.new" --no-same-owner --strip-components "$strip" 2>"$RUN/tar" || {
    rm -rf "$2.new"
    head -n 1 "$RUN/tar" >&2
    cannot_write "$2"
  }
  sync -f "$2.new"
  mv "$2.new" "$2"
  changed "$3 $(basename "$2")"
}

begin() {
  host_apply
  get_ready
}
