#!/usr/bin/env bash
# What of this host the checks of hardening are held against; changes nothing. A line a fact:
#   fact PATH<tab>VALUE      doc PATH<tab>BASE64
# from `portrait 1` to `end`. Travels on stdin, as observe.sh does; a failed command is an answer.
#
# Set above by the caller (hardening.py), all of them arrays:
#   SYSCTLS MODULES MOUNTS PACKAGES UNITS   names and paths
#   MODES          patterns of files whose owners and rights are asked for
#   FILES          files whose text is asked for; nothing secret
#   PROGRAMS       whose command lines are asked for
set -uo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fact() { printf 'fact %s\t%s\n' "$1" "${2//[$'\n\r\t']/ }"; }

document() { # PATH: from stdin
  local text
  text=$(base64 -w 0)
  [[ -z $text ]] || printf 'doc %s\t%s\n' "$1" "$text"
}

look() {
  echo 'portrait 1'
  # It prints `none`, too, and fails then.
  fact container "$(systemd-detect-virt -c 2> /dev/null)"
  [[ -e /var/lib/kubelet/config.yaml ]] && fact node yes
  kernel
  mounts
  system
  ssh
  kubernetes
  echo end
}

kernel() {
  local name path denied
  for name in "${SYSCTLS[@]}"; do
    path=/proc/sys/${name//./\/}
    [[ -r $path ]] && fact "sysctl/$name" "$(< "$path")"
  done
  # What modprobe does for each, wherever it is written.
  denied=$(modprobe --showconfig 2> /dev/null | tr - _)
  for name in "${MODULES[@]}"; do
    if [[ -d /sys/module/${name//-/_} ]]; then
      fact "module/$name" loaded
    elif grep -qE "^install ${name//-/_} /(usr/)?bin/(false|true)" <<< "$denied"; then
      fact "module/$name" denied
    else
      fact "module/$name" allowed
    fi
  done
  name=none
  [[ $(cat /sys/module/apparmor/parameters/enabled 2> /dev/null) == Y ]] && name=AppArmor
  [[ $(cat /sys/fs/selinux/enforce 2> /dev/null) == 1 ]] && name=SELinux
  fact confinement "$name"
}

mounts() {
  local path options name
  while read -r _ path _ options _; do
    for name in "${MOUNTS[@]}"; do
      [[ $path == "$name" ]] && fact "mount/$path" "$options"
    done
  done < <(tac /proc/mounts) # the one on top is the first to be told
}

system() {
  local name path
  systemd-analyze cat-config systemd/journald.conf 2> /dev/null | document journald
  if type -P apt-config > /dev/null; then apt-config dump 2> /dev/null | document apt; fi
  type -P apt-get > /dev/null && fact packager apt
  type -P dnf > /dev/null && fact packager dnf
  for name in "${PACKAGES[@]}"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null) == installed ]] ||
      { ! type -P dpkg-query > /dev/null && rpm -q --quiet "$name" 2> /dev/null; }; then
      fact "package/$name" installed
    fi
  done
  for name in "${UNITS[@]}"; do
    fact "unit/$name" "$(systemctl is-enabled "$name" 2> /dev/null) $(systemctl is-active "$name" 2> /dev/null)"
  done
  for path in "${FILES[@]}"; do
    if [[ -r $path ]]; then document "file/$path" < "$path"; fi
  done
  # shellcheck disable=SC2068 # they are patterns
  stat -c '%a %U:%G %n' ${MODES[@]} 2> /dev/null | document modes
}

# As the daemon understands its own files, for a login as root.
ssh() {
  local key value
  type -P sshd > /dev/null || return 0
  while read -r key value; do
    fact "sshd/$key" "$value"
  done < <(sshd -T -C user=root,host=localhost,addr=127.0.0.1 2> /dev/null)
}

kubernetes() {
  local name pid
  if [[ -r /var/lib/kubelet/config.yaml ]]; then document kubelet < /var/lib/kubelet/config.yaml; fi
  for name in "${PROGRAMS[@]}"; do
    # Of what runs; a manifest would only say what should. The kernel keeps 15 letters of a name.
    pid=$(pgrep -o -x "${name:0:15}") || continue
    tr '\0' '\n' < "/proc/$pid/cmdline" | document "process/$name"
  done
}

# As a function, so that a script cut off on its way runs nothing; and nobody reads the script's
# own stdin.
look < /dev/null
