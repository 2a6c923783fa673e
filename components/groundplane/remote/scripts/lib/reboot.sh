# shellcheck shell=bash
# A restart of this host in the middle of an update. The step that asks for it ends before, and the
# next one on this host is to find it restarted: so whoever comes meanwhile waits outside, as at a host
# that is down already.
# Data: .patching {reboot}

readonly REBOOTING=$STATE/rebooting # the boot that is to end
readonly REBOOT_SECONDS=300         # by then it is down, or it lets in whoever wants to know why

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# reboot_asked: by what the stack says, and by the host itself.
reboot_asked() {
  case $(data .patching.reboot) in
    always) true ;;
    never) false ;;
    *) reboot_needed ;;
  esac
}

# reboot_needed: as the system says it, or for a kernel that came after the start. observe.sh does the
# same.
reboot_needed() {
  local started
  [ ! -e /run/reboot-required ] || return 0
  started=$(awk '$1 == "btime" { print $2 }' /proc/stat)
  [ -z "$(find /boot -maxdepth 1 -name 'vmlinuz-*' -newerct "@$started" 2>/dev/null)" ] || return 0
  command -v dnf >/dev/null && dnf -q needs-restarting -r 2>/dev/null | grep -q 'Reboot is required'
}

reboot_note() { boot_id | write_atomically "$REBOOTING" 0600; }

# reboot_due: noted, and not done.
reboot_due() { [ -e "$REBOOTING" ] && [ "$(cat "$REBOOTING")" = "$(boot_id)" ]; }

# reboot_host: in two seconds, which this step has for its end.
reboot_host() {
  local port
  if port=$(connection_port); then
    systemd-run --quiet --collect --unit=groundplane-door --on-active="$REBOOT_SECONDS" -- \
      nft delete table inet groundplane-door
    # By the flags of a first packet: of connections that stand conntrack may know nothing.
    nft -f - <<NFT
table inet groundplane-door {
  chain input {
    type filter hook input priority filter - 1; policy accept;
    iif != lo tcp dport $port tcp flags & (fin | syn | rst | ack) == syn drop
  }
}
NFT
  fi
  systemd-run --quiet --collect --unit=groundplane-reboot --on-active=2 \
    --timer-property=AccuracySec=100ms -- systemctl reboot
  changed "$(uname -n) restarts"
}

# reboot_done: whether it restarted since that was noted; it is said once.
reboot_done() {
  [ -e "$REBOOTING" ] || return 1
  ! reboot_due || die "it did not restart within $REBOOT_SECONDS s" \
    "look at its console, restart it, then run the same command again"
  rm -f "$REBOOTING"
  changed "$(uname -n) restarted"
}
