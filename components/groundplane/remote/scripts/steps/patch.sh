# shellcheck shell=bash
# patch: the updates of the host's own packages, once for each round. A member is out of service from
# here on, behind the gate, until the node step has it healthy again. Where there is nothing to do it
# is not disturbed.
# Data: .name .address .role .endpoint .max_unavailable .patching {round packages reboot}

apply() {
  local round
  round=$(data .patching.round)
  if [ "$(applied patching)" != "$round" ]; then
    # What can fail for want of something outside fails before anybody is disturbed.
    patches_ready
    if [ -s "$PATCHES" ] || reboot_asked; then
      ! joined || out_of_service patches
      patches_install
      ! reboot_asked || reboot_note
    fi
    mark_applied patching "$round"
  fi
  ! reboot_due || reboot_host
}
