# shellcheck shell=bash
# The SSH connection over which a step was called. A step itself is a unit of systemd's; CALLER is the
# process that asked for it, and its parents are sshd's.

# stat_of PID: the name of a process, its parent, and when it started, in ticks since the boot.
stat_of() {
  local stat name fields
  stat=$(cat "/proc/$1/stat")
  # The name stands in brackets, and may hold any others.
  name=${stat#*\(} name=${name%\)*}
  read -r -a fields <<<"${stat##*\) }"
  echo "$name ${fields[1]} ${fields[19]}"
}

# ticks: the time now, on the same clock.
ticks() {
  local now
  # In two steps: the shell of a substitution of its own is the youngest process there is.
  now=$(stat_of "$BASHPID")
  echo "${now##* }"
}

# connection_began: when the connection did. sshd starts a process for each, whatever a client
# makes of it later: a second command over an old connection is an old connection's.
connection_began() {
  local pid=$CALLER name parent began
  while [ "$pid" -gt 1 ]; do
    read -r name parent began <<<"$(stat_of "$pid")"
    case $name in sshd | sshd-session | sshd-auth) echo "$began"; return ;; esac
    pid=$parent
  done
  return 1
}

# connection_port: this host's port that the connection came to.
connection_port() {
  local pid=$CALLER port
  while [ "$pid" -gt 1 ]; do
    # sudo takes it out of the environment of what it starts, and keeps it in its own.
    port=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=.* //p')
    if [ -n "$port" ]; then echo "$port"; return; fi
    read -r _ pid _ <<<"$(stat_of "$pid")"
  done
  return 1
}
