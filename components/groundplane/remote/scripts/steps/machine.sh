# shellcheck shell=bash
# machine: one guest of this hypervisor, from its disks to its first answer; later what changes its
# size, and its start where it was stopped. Gives back its public host key.
# Data: .name .domain .pool .address .image .disk_gib .disks [{name, size_gib}]
#       .definition what libvirt is told: another one restarts the guest
#       .seed {user keys prefix gateway dns} what the guest is installed with, and not told again

apply() {
  local folder
  folder=$(guest_folder)
  [ "$(stat -c %a "$folder" 2>/dev/null)" = 711 ] || { mkdir -p "$folder" && chmod 0711 "$folder"; } ||
    cannot_write "$folder"
  if installed; then change; else install_guest; fi
  fact file "$folder/guest.json" 0644 "$(digest <"$folder/guest.json")"
  fact exists "$folder/disk.qcow2"
  local name
  for name in $(data '.disks // [] | .[].name'); do fact exists "$folder/data-$name.qcow2"; done
  fact link "/etc/libvirt/qemu/autostart/$(data .domain).xml" "/etc/libvirt/qemu/$(data .domain).xml"
  keep_file "/etc/libvirt/qemu/$(data .domain).xml"
  fact domain "$(data .domain)" running
  record .key >"$RESULT"
}

# Nothing else on this hypervisor takes its entry away.
destroy() {
  remove_domain
  remove_paths "$(guest_folder)"
  rm -f "$STATE/ledger/$STEP".{json,facts}
}

# What was installed, and with which definition; written when all of it is there.
record() { jq -r "$1 // empty" "$(guest_folder)/guest.json" 2>/dev/null || true; }

installed() {
  [ "$(record .image)" = "$(data .image)" ] && [ -e "$(guest_folder)/disk.qcow2" ] &&
    vir dominfo "$(data .domain)" >/dev/null 2>&1
}

definition_digest() { data_json .definition | digest; }

# ---- installing ------------------------------------------------------------------------------

# From nothing, from what an interrupted run left, or from a guest that is to be another; disks with
# data stay as they are.
install_guest() {
  local folder image key
  folder=$(guest_folder) image=$(image_path "$(data .image)")
  [ -e "$image" ] || die "the image $image is missing" "run the same command again"
  remove_domain
  remove_paths "$folder/guest.json" "$folder/disk.qcow2" "$folder/console.log"
  create_disk "$folder/disk.qcow2" "$(data .disk_gib)" -b "$image" -F qcow2
  data_disks
  mkdir -p "$SEEDS" && chmod 0711 "$SEEDS"
  key=$RUN/$STEP.making
  rm -rf "$key" && mkdir -m 0700 "$key"
  seed "$key"
  # Not defined yet: a guest of which only half is there is begun anew.
  domain_xml "$(seed_path)" >"$key/domain.xml"
  vir create "$key/domain.xml" >"$key/said" 2>&1 ||
    die "libvirt does not start $(data .domain): $(tr '\n' ' ' <"$key/said")" \
      "journalctl -u libvirtd; /var/log/libvirt/qemu/$(data .domain).log"
  changed "$(data .domain) started, from $(data .image | cut -c1-16)"
  within 900 told_installed || {
    wipe_seed
    die "waited 900 s in vain for $(data .name) to be installed; its console ends with: $(
      tail -n 3 "$folder/console.log" 2>/dev/null | tr -d '\r' | tr '\n' ' ')" \
      "see the whole of it: less $folder/console.log; where guests hang at their start, KVM may not work here"
  }
  domain_xml >"$key/domain.xml"
  vir define "$key/domain.xml" >"$key/said" 2>&1 ||
    die "libvirt refuses the definition of $(data .domain): $(tr '\n' ' ' <"$key/said")"
  vir autostart "$(data .domain)" >/dev/null
  wipe_seed
  await_guest "$(cut -d' ' -f1,2 "$key/host.pub")"
  jq -cS --arg key "$(cut -d' ' -f1,2 "$key/host.pub")" --arg definition "$(definition_digest)" \
    '{image, key: $key, definition: $definition, accelerator: .definition.accelerator}' "$DATA" |
    write_atomically "$folder/guest.json" 0644
  rm -rf "$key"
  changed "$(data .name) installed"
}

told_installed() { grep -qF "groundplane: installed $(data .token)" "$(guest_folder)/console.log"; }

# seed FOLDER: makes the guest's host key there, and the seed of which it is a part.
seed() (
  trap 'rm -rf "$1/seed" "$1/host"' EXIT
  ssh-keygen -q -t ed25519 -N '' -C "$(data .name)" -f "$1/host"
  mkdir "$1/seed"
  seed_meta_data >"$1/seed/meta-data"
  seed_network_config >"$1/seed/network-config"
  seed_user_data "$1/host" >"$1/seed/user-data"
  genisoimage -quiet -output "$(seed_path)" -volid cidata -joliet -rock "$1/seed" 2>"$1/said" ||
    die "cannot write the seed of $(data .name): $(tail -n 1 "$1/said")"
)

# The guest reads its seed once. What it holds open reads as zeros from here on.
wipe_seed() {
  local seed
  seed=$(seed_path)
  [ -e "$seed" ] || return 0
  dd if=/dev/zero of="$seed" bs="$(stat -c %s "$seed")" count=1 conv=notrunc,fsync status=none
  vir detach-disk "$(data .domain)" vdzz --live >/dev/null 2>&1 || true
  # A guest that does not let go of it has none from its next start on.
  if within 60 seed_is_detached; then changed "seed detached and wiped"; else changed "seed wiped"; fi
  rm -f "$seed"
}

seed_is_detached() { ! vir domblklist "$(data .domain)" | grep -q vdzz; }

# await_guest KEY: from the outside, where this hypervisor is in the guest's network; behind macvtap
# and routers it is the first step on the guest that finds out.
await_guest() {
  local address
  address=$(data .address)
  [ -n "$(data .definition.bridge)" ] && on_link "$address" || return 0
  within 300 shows_key "$address" || die "waited 300 s in vain for $(data .name) to answer at $address" \
    "look at its console: virsh console $(data .domain); at the bridge: bridge link"
  [ "$(shown_key "$address")" = "$1" ] ||
    die "at $address answers a machine whose host key is not that of $(data .name)" \
      "another machine has this address: ip neigh show $address"
}

on_link() { local route; route=$(ip -o route get "$1" 2>/dev/null) && [[ $route != *" via "* ]]; }
shown_key() { ssh-keyscan -T 5 -t ed25519 "$1" 2>/dev/null | cut -d' ' -f2,3 | head -n 1; }
shows_key() { [ -n "$(shown_key "$1")" ]; }

# ---- disks -----------------------------------------------------------------------------------

# create_disk PATH GIB OPTION...: whole or not at all.
create_disk() {
  local path=$1 size=$2
  shift 2
  qemu-img create -q -f qcow2 "$@" "$path.new" "${size}G" || { rm -f "$path.new"; cannot_write "$path"; }
  mv "$path.new" "$path"
  changed "$path"
}

# data_disks: those that are there stay, and grow where they are to.
data_disks() {
  local name size path
  while read -r name size; do
    path=$(guest_folder)/data-$name.qcow2
    if [ -e "$path" ]; then grow_disk "$path" "$size"; else create_disk "$path" "$size"; fi
  done < <(data '.disks // [] | .[] | "\(.name) \(.size_gib)"')
}

# grow_disk PATH GIB
grow_disk() {
  local is wanted=$(($2 << 30))
  is=$(qemu-img info -U --output json "$1" | jq '."virtual-size"')
  [ "$is" -ne "$wanted" ] || return 0
  [ "$is" -lt "$wanted" ] || die "$1 has $((is >> 30)) GiB, and does not shrink to $2" \
    "set its size back; for a smaller one, make a guest of another name"
  if domain_is_off; then
    qemu-img resize -q "$1" "${2}G"
  else
    vir blockresize "$(data .domain)" "$1" "${2}GiB" >/dev/null
  fi
  changed "$1 has $2 GiB"
}

# ---- changing --------------------------------------------------------------------------------

change() {
  local folder
  folder=$(guest_folder)
  if [ "$(record .definition)" != "$(definition_digest)" ]; then stop_domain; fi
  data_disks
  grow_disk "$folder/disk.qcow2" "$(data .disk_gib)"
  define_domain
  case "$(domain_state)" in
    running) ;;
    paused) vir resume "$(data .domain)" >/dev/null && changed "$(data .domain) resumed" ;;
    suspended | pmsuspended) vir dompmwakeup "$(data .domain)" >/dev/null && changed "$(data .domain) woken" ;;
    *) start_domain ;;
  esac
  wait_until 60 "$(data .domain) runs" domain_runs
  await_guest "$(record .key)"
  if [ "$(record .definition)" != "$(definition_digest)" ]; then
    jq -cS --arg definition "$(definition_digest)" --slurpfile step "$DATA" \
      '. + {definition: $definition, accelerator: $step[0].definition.accelerator}' "$folder/guest.json" |
      write_atomically "$folder/guest.json" 0644
  fi
}

# The same definition again is what undoes somebody's edit; a guest that runs has it from its next start.
define_domain() {
  local xml=$RUN/$STEP.xml before after file
  file=/etc/libvirt/qemu/$(data .domain).xml
  before=$(digest <"$file" 2>/dev/null || true)
  domain_xml >"$xml"
  vir define "$xml" >"$xml.said" 2>&1 ||
    die "libvirt refuses the definition of $(data .domain): $(tr '\n' ' ' <"$xml.said")"
  vir autostart "$(data .domain)" >/dev/null
  after=$(digest <"$file" 2>/dev/null || true)
  rm -f "$xml" "$xml.said"
  [ "$before" = "$after" ] || changed "$(data .domain) defined"
}

start_domain() {
  local said
  said=$(vir start "$(data .domain)" 2>&1) ||
    die "libvirt does not start $(data .domain): $said" "/var/log/libvirt/qemu/$(data .domain).log"
  changed "$(data .domain) started"
}

# Its node left the cluster's service before; what a guest does not end by itself is cut off.
stop_domain() {
  ! domain_is_off || return 0
  vir shutdown "$(data .domain)" >/dev/null 2>&1 || true
  if within 180 domain_is_off; then
    changed "$(data .domain) shut down"
  else
    vir destroy "$(data .domain)" >/dev/null
    changed "$(data .domain) cut off, since it did not shut down within 180 s"
  fi
}

remove_domain() {
  local domain
  domain=$(data .domain)
  if ! domain_is_off; then
    [ "$VERB" = destroy ] || stop_domain
    vir destroy "$domain" >/dev/null 2>&1 || true
  fi
  if vir dominfo "$domain" >/dev/null 2>&1; then
    vir undefine "$domain" --nvram >/dev/null 2>&1 || vir undefine "$domain" >/dev/null
    changed "$domain removed"
  fi
  rm -f "$(seed_path)"
}
