#!/usr/bin/env bash
# A look at this host that changes nothing: `KEY<tab>FIELD...` a fact, from `groundplane` to `end`.
#
# Travels on stdin to hosts that may be blank: bash, GNU coreutils, findutils and /proc are all it
# counts on. What it cannot learn it leaves out; a failed command is an answer here, so no `set -e`.
#
# Set above by the caller (remote/observation.py), each may be missing:
#   LEDGER RECORD the folder of the ledger, and the file that says whose cluster this is
#   ENCRYPTION    the API server's keys for Secrets
#   DISTRIBUTION  the file that says which one this host was prepared for, if not kubeadm
#   NODE_ADDRESS  where this host's API server is asked
#   PORTS         (array) TCP ports whose owners are looked up
#   FEATURES      (array) kernel modules that must be there or loadable
#   COMMANDS      (array) commands that must be there
#   MIRRORS       (array) URLs to try;  PROXY (array) NAME=VALUE of http_proxy and its like
#   PATCHES       which updates of packages to count: security or all
#   POOL STACK    of a hypervisor: the folder of its guests, and whose are looked at
#   KVM KERNEL    the device of KVM, and a kernel to try it with
set -uo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

ledger=${LEDGER:-/var/lib/groundplane/ledger}
record=${RECORD:-/var/lib/groundplane/cluster.json}
distribution=${DISTRIBUTION:-/var/lib/groundplane/distribution}
[[ -r $distribution ]] && distribution=$(< "$distribution") || distribution=kubeadm
# Where what is looked at lies: credentials by which the API and etcd are asked, the data of the
# latter, and what else shows that there is a cluster.
pki=/etc/kubernetes/pki
admin=/etc/kubernetes/admin.conf
etcd_data=/var/lib/etcd/member
etcd_ca=$pki/etcd/ca.crt
etcd_client=$pki/etcd/healthcheck-client
etcd_http=https://127.0.0.1:2379
encryption=/etc/kubernetes/groundplane/encryption.json
traces=(/etc/kubernetes/{admin,super-admin,kubelet,bootstrap-kubelet}.conf
  /etc/kubernetes/manifests/*.yaml "$pki"/ca.{crt,key} "$etcd_data" /var/lib/kubelet/config.yaml
  /etc/rancher/{k3s,rke2} /var/lib/rancher/{k3s,rke2} /var/lib/k0s /var/snap/microk8s)
own_certificates=(/var/lib/kubelet/pki/{kubelet-client-current.pem,kubelet.crt}
  /etc/kubernetes/{admin,super-admin,controller-manager,scheduler}.conf)
if [[ $distribution == k3s ]]; then
  pki=/var/lib/rancher/k3s/server/tls
  admin=/etc/rancher/k3s/groundplane/admin.conf
  etcd_data=/var/lib/rancher/k3s/server/db/etcd/member
  etcd_ca=$pki/etcd/server-ca.crt
  etcd_client=/etc/rancher/k3s/groundplane/etcd
  etcd_http=https://127.0.0.1:2382
  encryption=/etc/rancher/k3s/groundplane/encryption.json
  traces=("$pki"/server-ca.{crt,key} "$etcd_data" /var/lib/rancher/k3s/agent/kubelet.kubeconfig)
  own_certificates=(/var/lib/rancher/k3s/agent/{client,serving}-kubelet.crt
    /etc/rancher/k3s/groundplane/*.crt)
  # etcd has the loopback address of the node's family.
  [[ -r /etc/rancher/k3s/config.yaml &&
    $(< /etc/rancher/k3s/config.yaml) =~ \"advertise-address\":\"[^\"]*: ]] &&
    etcd_http="https://[::1]:2382"
fi
encryption=${ENCRYPTION:-$encryption}
# A file this large or larger is hashed only if its inode changed since its facts were written:
# the Kubernetes binaries alone would take a second on each look.
large=$((1 << 20))
recorded_certificates=()

say() {
  local IFS=$'\t'
  printf '%s\n' "$*"
}

# say_file KEY... PATH: a file of JSON on one line. Raw line breaks and tabs can only stand between
# JSON's tokens, so nothing is lost.
say_file() {
  local text=
  IFS= read -r -d '' text < "${*: -1}"
  say "${@:1:$#-1}" "${text//[$'\n\r\t']/ }"
}

first_line() { # FILE: sets REPLY
  REPLY=
  [[ -r $1 ]] && IFS= read -r REPLY < "$1" 2> /dev/null
  return 0
}

look() {
  say groundplane 1
  say clock "$EPOCHREALTIME"
  begin_slow
  session
  system
  hardware
  network
  features
  packages
  clusters
  hypervisor
  ledgers
  certificates
  end_slow
  say end
}

# By which of the host's ports this look came, and from where. sudo takes it out of the environment,
# and keeps it in its own.
session() {
  local pid=$$ name connection=
  local -a words=()
  while ((pid > 1)); do
    while IFS= read -r -d '' name; do
      [[ $name == SSH_CONNECTION=* ]] && connection=${name#*=}
    done 2> /dev/null < "/proc/$pid/environ"
    [[ $connection ]] && break
    read -r -d '' name < "/proc/$pid/stat" || [[ $name ]] || return 0
    read -r -a words <<< "${name##*) }"
    pid=${words[1]}
  done
  read -r -a words <<< "$connection"
  [[ $connection ]] && say ssh "${words[0]%%%*}" "${words[3]}"
}

system() {
  say root "$((EUID == 0))"
  local file=/etc/os-release key value id='' version=''
  [[ -r $file ]] || file=/usr/lib/os-release
  while IFS='=' read -r key value; do
    value=${value#[\"\']} value=${value%[\"\']}
    case $key in ID) id=$value ;; VERSION_ID) version=$value ;; esac
  done < "$file"
  say system "$id" "$version"
  say arch "$(uname -m)"
  first_line /proc/sys/kernel/osrelease && say kernel "$REPLY"
  first_line /proc/sys/kernel/hostname && say hostname "$REPLY"
  first_line /proc/sys/kernel/random/boot_id && say boot_id "$REPLY"
  first_line /etc/machine-id && say machine_id "$REPLY"
  first_line /sys/class/dmi/id/product_uuid && say product_uuid "$REPLY"
  # "systemd 252 (252.39-1~deb12u1)"
  systemctl --version 2> /dev/null | { read -r _ value _ && say systemd "$value"; }
  say virtualization "$(systemd-detect-virt 2> /dev/null)"
  if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
    first_line /sys/fs/cgroup/cgroup.controllers
    say cgroup 2 "$REPLY"
  else
    local names=()
    while read -r key _ _ value; do
      [[ $value == 1 ]] && names+=("$key")
    done < /proc/cgroups
    say cgroup 1 "${names[*]}"
  fi
}

hardware() {
  local key value path size free swap=0
  while read -r key value _; do
    [[ $key == MemTotal: ]] && say memory "$((value * 1024))" && break
  done < /proc/meminfo
  while read -r _ _ value _; do
    [[ $value == Size ]] || swap=$((swap + value * 1024))
  done < /proc/swaps
  say swap "$swap"
  say cpus "$(nproc)"
  for path in / /etc /usr/local /var/lib; do
    [[ -w $path ]] || say readonly "$path"
  done
  local -a paths=(/ /var/lib)
  while read -r size free; do
    say disk "${paths[0]}" "$free" "$size"
    paths=("${paths[@]:1}")
  done < <(df -B1 --output=size,avail "${paths[@]}" 2> /dev/null | tail -n +2)
}

# What a machine that runs guests tells of them. All domains, also of others: they share the memory.
hypervisor() {
  [[ -v POOL ]] || return 0
  local path key value name='' state='' vcpus='' memory='' free size
  while read -r key value _; do
    [[ $key == MemAvailable: ]] && say available "$((value * 1024))" && break
  done < /proc/meminfo
  while IFS=: read -r key value; do
    [[ $key == model\ name* ]] && say cpu_model "${value# }" && break
  done < /proc/cpuinfo
  for path in /sys/module/kvm_{intel,amd}/parameters/nested; do
    first_line "$path" && [[ $REPLY ]] && say nested "$REPLY"
  done
  for path in /sys/class/net/*/bridge; do
    [[ -d $path ]] && path=${path%/bridge} && say bridge "${path##*/}"
  done
  # The pool may not be there yet: then what it will be on.
  path=$POOL
  until [[ -d $path ]]; do path=${path%/*} path=${path:-/}; done
  read -r size free < <(df -B1 --output=size,avail "$path" 2> /dev/null | tail -n +2)
  say disk "$POOL" "$free" "$size"
  for path in "$POOL/$STACK".*/guest.json; do
    [[ -r $path ]] || continue
    name=${path%/guest.json}
    say_file guest "${name##*/}" "$path"
  done
  type -P virsh > /dev/null || return 0
  name=
  while IFS='=' read -r key value; do
    case $key in
      "Using library: libvirt "*) libvirt=${key##* } && say libvirt "$libvirt" ;;
      "Domain: '"*)
        one_domain
        key=${key#*\'} name=${key%\'*} state=0 vcpus='' memory=''
        ;;
      *state.state) state=$value ;;
      *vcpu.maximum) vcpus=$value ;;
      *balloon.maximum) memory=$((value * 1024)) ;;
    esac
  done < <(timeout 10 virsh -q -c qemu:///system 'version; domstats --state --vcpu --balloon' 2> /dev/null)
  one_domain
}
one_domain() {
  [[ $name ]] || return 0
  domain[$name]=${DOMAIN_STATES[state]-unknown}
  say domain "$name" "${domain[$name]}" "$vcpus" "$memory"
}
libvirt=
declare -A domain=()
# As virDomainState counts them.
DOMAIN_STATES=(unknown running running paused running 'shut off' crashed suspended)

network() {
  local path name mac mtu line words
  for path in /sys/class/net/*; do
    name=${path##*/}
    # Pods' ends are many and say nothing of the host.
    case $name in lo | bonding_masters | veth* | cali* | lxc*) continue ;; esac
    first_line "$path/mtu" && mtu=$REPLY
    first_line "$path/address" && mac=$REPLY
    say interface "$name" "$mac" "$mtu"
  done
  if type -P ip > /dev/null; then
    while read -r _ name _ line _; do
      say address "$name" "$line"
    done < <(ip -o addr show scope global 2> /dev/null)
    # Some hosts speak BGP: the first of their routes are enough.
    while read -r -a words; do
      [[ ${words[0]} == unreachable || ${words[0]} == blackhole ]] && continue
      [[ " ${words[*]} " =~ \ dev\ ([^ ]+)\  ]] && say route "${words[0]}" "${BASH_REMATCH[1]}"
    done < <({
      ip -4 route show
      ip -6 route show
    } 2> /dev/null | head -n 300)
  fi
  while read -r name line _; do
    [[ $name == nameserver ]] && say nameserver "$line"
  done 2> /dev/null < /etc/resolv.conf
  ports
}

# Who listens on the asked ports: /proc/net/tcp gives a socket's inode, /proc/PID/fd its owner.
ports() {
  [[ -v PORTS ]] || return 0
  local -A asked=() owner=()
  local port hex inode where name
  for port in "${PORTS[@]}"; do asked[$port]=; done
  while read -r _ where _ _ _ _ _ _ _ inode _; do
    hex=${where##*:}
    port=$((16#$hex))
    [[ -v asked[$port] ]] && asked[$port]+=" $inode" && owner[$inode]=
  done < <(grep -h ' 0A ' /proc/net/tcp /proc/net/tcp6 2> /dev/null)
  ((${#owner[@]})) || return 0
  local -a these=()
  for inode in "${!owner[@]}"; do these+=(-o -lname "socket:\\[$inode\\]"); done
  while read -r where inode; do
    where=${where#/proc/}
    first_line "/proc/${where%%/*}/comm"
    owner[${inode//[^0-9]/}]=$REPLY
  done < <(find /proc/[0-9]*/fd \( "${these[@]:1}" \) -printf '%p %l\n' 2> /dev/null)
  for port in "${!asked[@]}"; do
    name=
    for inode in ${asked[$port]}; do name=${owner[$inode]:-$name}; done
    [[ ${asked[$port]} ]] && say listener "$port" "$name"
  done
}

# A module counts as there when it is loaded, built in or loadable; where the kernel's modules are
# not to be seen (a container) it is unknown.
module_state() { # NAME: sets REPLY
  local name=${1//-/_} tree
  first_line /proc/sys/kernel/osrelease
  tree=/lib/modules/$REPLY
  REPLY=loaded
  [[ -d /sys/module/$name ]] && return
  case $name in
    overlay) grep -qw overlay /proc/filesystems && return ;;
    br_netfilter) [[ -d /proc/sys/net/bridge ]] && return ;;
    nf_conntrack) [[ -d /proc/sys/net/netfilter ]] && return ;;
  esac
  REPLY=unknown
  [[ -r $tree/modules.dep ]] || return
  REPLY=builtin
  grep -q "/${name//_/[-_]}\.ko" "$tree/modules.builtin" 2> /dev/null && return
  REPLY=available
  modprobe -n -q "$name" 2> /dev/null && return
  REPLY=missing
}

features() {
  local name
  for name in "${FEATURES[@]}"; do
    module_state "$name"
    say feature "$name" "$REPLY"
  done
  for name in "${COMMANDS[@]}"; do
    type -P "$name" > /dev/null || say missing "$name"
  done
}

packages() {
  local path inode pid name
  if type -P apt-get > /dev/null; then
    say packager apt
  elif type -P dnf > /dev/null; then
    say packager dnf
  fi
  restart_wanted && say restart
  # apt, dpkg and rpm lock files by fcntl: the lock is in /proc/locks by the file's inode.
  local class
  local -A holder=()
  while read -r _ class _ _ pid inode _; do
    [[ $class == POSIX ]] && holder[${inode##*:}]=$pid
  done < /proc/locks
  while read -r inode path; do
    pid=${holder[$inode]-}
    [[ $pid ]] || continue
    if ((EUID == 0)) && [[ -d /proc/$pid ]]; then
      # Another file system may have the same inode number.
      find "/proc/$pid/fd" -lname "$path" 2> /dev/null | grep -q . || continue
    fi
    first_line "/proc/$pid/comm"
    say lock "$path" "$REPLY"
  done < <(find /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock \
    /var/cache/apt/archives/lock /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock \
    -maxdepth 0 -printf '%i %p\n' 2> /dev/null)
  # dnf writes its process id.
  for path in /var/cache/dnf/*_lock.pid /var/lib/dnf/*_lock.pid; do
    [[ -e $path ]] || continue
    first_line "$path"
    name=$REPLY
    [[ $name && -d /proc/$name ]] || continue
    first_line "/proc/$name/comm"
    say lock "$path" "$REPLY"
  done
}

# As reboot_needed of lib/reboot.sh, but for dnf, which is asked beside everything else.
restart_wanted() {
  local key started
  [[ -e /run/reboot-required ]] && return
  while read -r key started; do [[ $key == btime ]] && break; done < /proc/stat
  find /boot -maxdepth 1 -name 'vmlinuz-*' -newerct "@$started" 2> /dev/null | grep -q .
}

# How many packages could be newer, as far as the host's own lists know. A count and no list: it is a
# hint, and the step finds out for itself.
pending() {
  local only=.
  if type -P apt-get > /dev/null; then
    [[ $PATCHES == security ]] && only='-[Ss]ecurity'
    say pending "$(timeout 10 apt-get -s -qq --with-new-pkgs upgrade 2> /dev/null |
      grep '^Inst [^ ]* \[' | grep -c -- "$only")"
  elif type -P dnf > /dev/null; then
    local -a words=(dnf -q -C check-update)
    [[ $PATCHES == security ]] && words+=(--security)
    say pending "$(timeout 10 "${words[@]}" 2> /dev/null | grep -c '^[^ ]\+\.[^ ]\+ ')"
    timeout 10 dnf -q -C needs-restarting -r 2> /dev/null | grep -q 'Reboot is required' && say restart
  fi
}

clusters() {
  local path
  for path in "${traces[@]}"; do
    [[ -e $path ]] && say cluster_data "$path"
  done
  for path in /usr/bin/{containerd,dockerd,crio} /run/docker.sock /run/crio/crio.sock \
    /run/containerd/containerd.sock; do
    [[ -e $path ]] && say runtime "$path"
  done
  [[ -r $record ]] && say_file record "$record"
  # Of the key that Secrets are written with: the first. Its name tells, and the key stays here.
  [[ -r $encryption && $(< "$encryption") =~ \"name\":\"key([0-9]+)\" ]] &&
    say encryption "${BASH_REMATCH[1]}"
}

# The ledger, and each recorded fact compared with what is there now. All files are looked at by
# one find and hashed by one sha256sum; all units are asked about in one call, all packages too.
ledgers() {
  local path step kind a b c
  for path in "$ledger"/*.json; do
    [[ -r $path ]] || continue
    step=${path##*/}
    say_file ledger "${step%.json}" "$path"
  done

  local -a steps=() kinds=() as=() bs=() cs=() paths=() units=() names=()
  for path in "$ledger"/*.facts; do
    [[ -r $path ]] || continue
    step=${path##*/} step=${step%.facts}
    paths+=("$path")
    while IFS=$'\t' read -r kind a b c; do
      case $kind in
        file | link | absent | cert | exists | mode) paths+=("$a") ;;
        unit) units+=("$a") ;;
        package) names+=("$a") ;;
        sysctl | module | domain | table | mount) ;;
        *) continue ;;
      esac
      steps+=("$step") kinds+=("$kind") as+=("$a") bs+=("$b") cs+=("$c")
    done < "$path"
  done
  ((${#kinds[@]})) || return 0

  local -A type=() mode=() size=() changed=() written=() target=() hash=() unit=() installed=()
  local t m s changed_at written_at l
  # Times to the nanosecond, as one number that bash can compare.
  while IFS=$'\t' read -r path t m s changed_at written_at l; do
    type[$path]=$t mode[$path]=$m size[$path]=$s target[$path]=$l
    changed_at=${changed_at/./} written_at=${written_at/./}
    changed[$path]=${changed_at:0:19} written[$path]=${written_at:0:19}
  done < <(find "${paths[@]}" -maxdepth 0 -printf '%p\t%y\t%m\t%s\t%C@\t%T@\t%l\n' 2> /dev/null)

  local i
  local -a to_hash=()
  for i in "${!kinds[@]}"; do
    a=${as[i]}
    [[ ${kinds[i]} == file && ${type[$a]-} == f ]] || continue
    if ((size[$a] >= large && changed[$a] < written["$ledger/${steps[i]}.facts"])); then
      hash[$a]=${cs[i]}
    else
      to_hash+=("$a")
    fi
  done
  while read -r c path; do
    hash[$path]=$c
  done < <(((${#to_hash[@]})) && sha256sum -- "${to_hash[@]}" 2> /dev/null)
  states_of_units "${units[@]}"
  installed_packages "${names[@]}"

  for i in "${!kinds[@]}"; do
    a=${as[i]}
    if [[ ${kinds[i]} == cert && ${type[$a]-} ]]; then
      recorded_certificates+=("$a")
      say cert_fact "${steps[i]}" "$a" "${bs[i]}"
    fi
    now_of "${kinds[i]}" "$a" "${bs[i]}" "${cs[i]}" && continue
    say drift "${steps[i]}" "${kinds[i]} $a" "${bs[i]}${cs[i]:+ ${cs[i]}}" \
      "${REPLY//[$'\n\r\t']/ }"
  done
}

# Fills `unit` of ledgers: "enabled|disabled active|inactive" by name.
states_of_units() {
  (($#)) || return 0
  local line load='' file='' active=''
  local -a left=("$@")
  while IFS= read -r line; do
    case $line in
      LoadState=*) load=${line#*=} ;;
      UnitFileState=*) file=${line#*=} ;;
      ActiveState=*) active=${line#*=} ;;
      '') # the end of one unit; they come in the order of asking
        case $load in
          loaded)
            case $file in enabled*) file=enabled ;; *) file=disabled ;; esac
            case $active in
              active | reloading | refreshing) active=active ;;
              *) active=inactive ;;
            esac
            unit[${left[0]}]="$file $active"
            ;;
          *) unit[${left[0]}]=$load ;;
        esac
        left=("${left[@]:1}")
        ;;
    esac
  done < <(timeout 5 systemctl show -p LoadState,UnitFileState,ActiveState -- "$@" 2> /dev/null &&
    echo)
  ((${#left[@]})) && say problem "systemctl did not tell the state of: ${left[*]}"
  return 0
}

# Fills `installed` of ledgers.
installed_packages() {
  (($#)) || return 0
  local name state
  while read -r name state; do
    [[ $state == installed ]] && installed[$name]=1
  done < <(
    if type -P dpkg-query > /dev/null; then
      dpkg-query -W -f '${Package} ${db:Status-Status}\n' -- "$@" 2> /dev/null
    else
      rpm -q --qf '%{NAME} installed\n' -- "$@" 2> /dev/null
    fi
  )
}

# now_of KIND A B C: 0 when the fact holds; else REPLY is what is there instead.
now_of() {
  local kind=$1 a=$2 b=$3 c=$4 path
  REPLY=absent
  case $kind in
    file)
      case ${type[$a]-} in
        '') ;;
        f)
          # As written by us: 0644; as find says it: 644.
          printf -v REPLY '%04o %s' "$((8#${mode[$a]}))" "${hash[$a]-unreadable}"
          [[ $REPLY == "$b $c" ]] && return 0
          ;;
        *) REPLY="not a file" ;;
      esac
      ;;
    mode)
      [[ ${type[$a]-} ]] && printf -v REPLY '%04o' "$((8#${mode[$a]}))"
      [[ $REPLY == "$b" ]] && return 0
      ;;
    mount)
      local option
      REPLY=$(while read -r _ path _ option _; do [[ $path == "$a" ]] && echo "$option"; done < /proc/mounts)
      [[ $REPLY ]] || REPLY=absent
      REPLY=${REPLY##*$'\n'}
      for option in ${b//,/ }; do [[ ,$REPLY, == *",$option,"* ]] || return 1; done
      return 0
      ;;
    link)
      [[ ${type[$a]-} ]] && REPLY=${target[$a]:-not a link}
      [[ $REPLY == "$b" ]] && return 0
      ;;
    absent)
      [[ ${type[$a]-} ]] || return 0
      REPLY=present
      ;;
    exists)
      [[ ${type[$a]-} ]] && return 0
      ;;
    domain)
      # Where libvirt did not answer nothing can be said.
      [[ $libvirt ]] || return 0
      REPLY=${domain[$a]-absent}
      [[ $REPLY == "$b" ]] && return 0
      ;;
    table)
      # As firewall_digest of lib/firewall.sh works it out; jq came with the step that made the table.
      type -P nft jq > /dev/null && ((EUID == 0)) || return 0
      read -r REPLY _ < <(nft -s -j list table "${a% *}" "${a#* }" 2> /dev/null | jq -cS '[.nftables[]
        | select(has("metainfo") | not)
        | if .set then .set.elem = ([.set.elem[]? | select(type == "string" or (has("elem") | not))] | sort)
          else . end | del(.. | objects | .handle)]' | sha256sum)
      [[ $REPLY == "$b" ]] && return 0
      nft list table "${a% *}" "${a#* }" > /dev/null 2>&1 || REPLY=absent
      ;;
    cert)
      # Its date is compared by the caller, who can read it.
      [[ ${type[$a]-} ]] && return 0
      ;;
    sysctl)
      # As sysctl(8): dots and slashes change places unless a slash comes first.
      path=$a
      [[ $a =~ ^[^./]*\. ]] && path=${a//\//$'\n'} path=${path//./\/} path=${path//$'\n'/.}
      local -a is=() wanted=()
      if [[ -r /proc/sys/$path ]]; then
        read -r -d '' -a is < "/proc/sys/$path"
        REPLY=${is[*]}
      fi
      read -r -a wanted <<< "$b $c" # tabs in the value have become fields
      [[ $REPLY == "${wanted[*]}" ]] && return 0
      ;;
    unit)
      # Where systemd did not answer nothing can be said.
      [[ -v unit[$a] ]] || return 0
      REPLY=${unit[$a]}
      [[ $REPLY == "$b $c" ]] && return 0
      ;;
    module)
      module_state "$a"
      [[ $REPLY == missing || $REPLY == available ]] || return 0
      REPLY=unloaded
      ;;
    package)
      [[ -v installed[$a] ]] && return 0
      ;;
  esac
  return 1
}

# Certificates, public parts only: openssl may be missing here, so the caller reads them.
certificates() {
  local path
  local -A said=()
  for path in "$pki"/*.crt "$pki"/etcd/*.crt "${own_certificates[@]}" \
    "${recorded_certificates[@]}"; do
    [[ -r $path && ! -v said[$path] ]] || continue
    said[$path]=1
    certificate "$path"
  done
}

# The first certificate of a PEM file, or a kubeconfig's client certificate.
certificate() {
  local line body='' inside=
  local -a lines=()
  mapfile -t lines < "$1"
  for line in "${lines[@]}"; do
    case $line in
      '-----BEGIN CERTIFICATE-----') inside=1 ;;
      '-----END CERTIFICATE-----')
        say certificate "$1" "$body"
        return
        ;;
      *client-certificate-data:*)
        say client_certificate "$1" "${line##*: }"
        return
        ;;
      *) body+=${inside:+$line} ;;
    esac
  done
}

# What waits for an answer from elsewhere runs beside everything else, each within 5 s.
slow=()
begin_slow() {
  local fd url
  if [[ -r $admin ]] && type -P kubectl jq > /dev/null; then
    exec {fd}< <(nodes)
    slow+=("$fd")
  fi
  if [[ -d $etcd_data && -r $etcd_client.key ]] &&
    type -P curl jq > /dev/null; then
    exec {fd}< <(etcd)
    slow+=("$fd")
  fi
  if [[ -v POOL && -c ${KVM:=/dev/kvm} && -w $KVM ]]; then
    exec {fd}< <(kvm)
    slow+=("$fd")
  fi
  if [[ -v PATCHES ]]; then
    exec {fd}< <(pending)
    slow+=("$fd")
  fi
  for url in "${MIRRORS[@]}"; do
    exec {fd}< <(mirror "$url")
    slow+=("$fd")
  done
}

end_slow() {
  local fd
  for fd in "${slow[@]}"; do
    cat <&"$fd"
    exec {fd}<&-
  done
}

# A /dev/kvm proves nothing: inside a virtual machine it may be there, and never get a kernel through
# its start. A guest that was installed with it proves it; where none runs, the kernel of this machine
# is started until it looks for its disk.
kvm() {
  local path name qemu kernel console=ttyS0
  for path in "$POOL"/*/guest.json; do
    name=${path%/guest.json} name=${name##*/}
    [[ -e /run/libvirt/qemu/$name.xml ]] && grep -q '"accelerator":"kvm"' "$path" &&
      say kvm works && return
  done
  first_line /proc/sys/kernel/osrelease
  kernel=${KERNEL:-/boot/vmlinuz-$REPLY}
  qemu=$(type -P "qemu-system-$(uname -m)" qemu-kvm /usr/libexec/qemu-kvm)
  [[ -r $kernel && $qemu ]] || { say kvm untried && return; }
  local -a machine=()
  [[ $(uname -m) != aarch64 ]] || machine=(-machine virt) console=ttyAMA0
  if timeout 10 "${qemu%%$'\n'*}" "${machine[@]}" -accel kvm -cpu host -m 512 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$kernel" -append "console=$console panic=-1" \
    2> /dev/null | grep -q 'Unable to mount root fs'; then say kvm works; else say kvm hangs; fi
}

# From the API server's own memory (resourceVersion=0), so also while etcd has no quorum.
nodes() {
  local json
  json=$(timeout 5 kubectl --kubeconfig "$admin" \
    ${NODE_ADDRESS:+--server "https://$NODE_ADDRESS:6443"} \
    get --raw '/api/v1/nodes?resourceVersion=0' 2> /dev/null | jq -c '[.items[] | {
      name: .metadata.name,
      addresses: [.status.addresses[]? | select(.type == "InternalIP") | .address],
      ready: any(.status.conditions[]?; .type == "Ready" and .status == "True"),
      version: .status.nodeInfo.kubeletVersion,
      unschedulable: (.spec.unschedulable // false),
      pod_cidrs: (.spec.podCIDRs // []),
      control_plane: (.metadata.labels | has("node-role.kubernetes.io/control-plane"))
    }]' 2> /dev/null)
  [[ $json ]] && say nodes "$json"
}

# etcd's own JSON gateway: one process where etcdctl would be three, of 60 ms each.
etcd() {
  local ask=(curl -sS --max-time 3 --cacert "$etcd_ca"
    --cert "$etcd_client.crt" --key "$etcd_client.key" -w '\n')
  local own=$etcd_http members status alarms health
  {
    IFS= read -r members && IFS= read -r status && IFS= read -r alarms && IFS= read -r health
  } < <("${ask[@]}" -d '{"linearizable": false}' "$own/v3/cluster/member/list" --next \
    "${ask[@]:1}" -d '{}' "$own/v3/maintenance/status" --next \
    "${ask[@]:1}" -d '{}' "$own/v3/maintenance/alarm" --next \
    "${ask[@]:1}" "$own/health" 2> /dev/null)
  say etcd "${members:-}" "${status:-}" "${alarms:-}" "${health:-}"
  if [[ $own != *:2379 ]]; then
    members_by_etcdctl "${members:-}"
    return
  fi
  # Which members answer at all; the dead ones cost their timeout together, not one by one.
  jq -r '.members[]?.clientURLs[0]? // empty |
    "url = \"\(.)/health?serializable=true\"\noutput = /dev/null"' <<< "${members:-}" 2> /dev/null |
    "${ask[@]}" -Z --max-time 2 -w 'member\t%{url_effective}\t%{http_code}\n' -K - 2> /dev/null
}

# Where etcd speaks HTTP to its own host only, the others are asked by its tool, all at once.
members_by_etcdctl() { # MEMBERS
  local urls
  urls=$(jq -r '[.members[]?.clientURLs[0]? // empty] | join(",")' <<< "$1" 2> /dev/null)
  [[ $urls ]] || return
  etcdctl --endpoints "$urls" --command-timeout 2s --dial-timeout 2s --cacert "$etcd_ca" \
    --cert "$etcd_client.crt" --key "$etcd_client.key" endpoint health -w json 2> /dev/null |
    jq -r '.[]? | "member\t\(.endpoint)/health\t\(if .health then 200 else 503 end)"' 2> /dev/null
}

# Reached counts, whatever the path: a mirror's root need not hold a page.
mirror() { # URL
  local code error
  if type -P curl > /dev/null; then
    IFS=$'\t' read -r code error < <(env "${PROXY[@]}" curl -s -I -o /dev/null --max-time 5 \
      -w '%{http_code}\t%{errormsg}\n' "$1" 2> /dev/null)
    say mirror "$1" "${code:-000}" "${error:-}"
  elif [[ $1 =~ ^http://([^/:]+)(:([0-9]+))?(/.*)?$ && ! -v PROXY ]]; then
    # A blank host may lack curl; bash speaks enough HTTP to ask.
    # shellcheck disable=SC2016  # the inner bash expands its own arguments
    read -r _ code error < <(timeout 5 bash -c 'exec 3<> "/dev/tcp/$1/$2" &&
      printf "HEAD %s HTTP/1.0\r\nHost: %s\r\n\r\n" "$3" "$1" >&3 && head -n 1 <&3' \
      - "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]:-80}" "${BASH_REMATCH[4]:-/}" 2>&1)
    if [[ $code =~ ^[0-9]+$ ]]; then
      say mirror "$1" "$code" ''
    else
      say mirror "$1" 000 "${code:+$code }${error:-no answer within 5 s}"
    fi
  fi
}

# As a function, so that a script cut off on its way runs nothing; and nobody reads the script's
# own stdin.
look < /dev/null
