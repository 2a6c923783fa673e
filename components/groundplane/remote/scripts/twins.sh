#!/usr/bin/env bash
# What of this node matters when two clusters are compared; changes nothing. A line a fact:
#   fact PATH<tab>VALUE      doc PATH<tab>BASE64      problem TEXT
# from `portrait 1` to `end`. Travels on stdin, as observe.sh does; a failed command is an answer.
#
# Set above by the caller (remote/portrait.py):
#   NODE_ADDRESS  the node's own address
#   API           1 on a control plane, which also tells what only the API knows
set -uo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

KUBECTL=(kubectl --kubeconfig /etc/kubernetes/admin.conf --server "https://$NODE_ADDRESS:6443"
  --request-timeout 30s --cache-dir /dev/null)
WORKLOADS=deployments.apps,daemonsets.apps,statefulsets.apps,cronjobs.batch,pods
OBJECTS=customresourcedefinitions,validatingwebhookconfigurations,mutatingwebhookconfigurations
OBJECTS+=,storageclasses,csidrivers,runtimeclasses,priorityclasses

fact() { # PATH VALUE...: nothing where there is no value
  local path=$1
  shift
  [[ -z ${*//[[:space:]]/} ]] || printf 'fact %s\t%s\n' "$path" "${*//[$'\n\r\t']/ }"
}

file() { # PATH FILE: its first line
  local line=
  [[ -r $2 ]] && { IFS= read -r line < "$2"; } 2> /dev/null
  fact "$1" "$line"
}

document() { # PATH: from stdin
  local text
  text=$(base64 -w 0)
  [[ -z $text ]] || printf 'doc %s\t%s\n' "$1" "$text"
}

look() {
  echo 'portrait 1'
  system
  processor
  memory
  disks
  network
  sysctls
  programs
  runtime
  [[ ${API:-} != 1 ]] || api
  echo end
}

system() {
  local key value='' id='' version=''
  while IFS='=' read -r key value; do
    value=${value#[\"\']} value=${value%[\"\']}
    case $key in ID) id=$value ;; VERSION_ID) version=$value ;; esac
  done < /etc/os-release
  fact system/release "$id $version"
  fact system/architecture "$(uname -m)"
  read -r _ value _ < <(systemctl --version 2> /dev/null)
  fact system/systemd "$value"
  file kernel/release /proc/sys/kernel/osrelease
  file kernel/build /proc/sys/kernel/version
  file kernel/command_line /proc/cmdline
  file kernel/security /sys/kernel/security/lsm
  if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
    fact cgroup/version 2
    file cgroup/controllers /sys/fs/cgroup/cgroup.controllers
  else
    fact cgroup/version 1
  fi
  # Each kind by itself: a container in a virtual machine is both.
  fact virtualization/machine "$(systemd-detect-virt --vm 2> /dev/null)"
  fact virtualization/container "$(systemd-detect-virt --container 2> /dev/null)"
  file virtualization/product /sys/class/dmi/id/product_name
  file clock/source /sys/devices/system/clocksource/clocksource0/current_clocksource
  for key in transparent_hugepage/{enabled,defrag}; do file "kernel/$key" "/sys/kernel/mm/$key"; done
  for key in /sys/devices/system/cpu/vulnerabilities/*; do
    [[ -r $key ]] && file "mitigations/${key##*/}" "$key"
  done
}

processor() {
  local key value part all=0
  local -a ticks nodes=(/sys/devices/system/node/node[0-9]*)
  # The first processor speaks for all. Speeds change all the time.
  while IFS=: read -r key value; do
    key=${key%%$'\t'*} value=${value# }
    case $key in
      'model name' | vendor_id | 'cache size' | microcode | 'CPU implementer' | 'CPU part')
        fact "processor/${key// /_}" "$value"
        ;;
      'cpu cores') fact processor/cores_a_socket "$value" ;;
      siblings) fact processor/threads_a_socket "$value" ;;
      flags | Features) for value in $value; do fact "processor/flags/$value" yes; done ;;
      '') break ;;
    esac
  done < /proc/cpuinfo
  fact processor/count "$(nproc)"
  [[ -d ${nodes[0]} ]] && fact processor/numa_nodes "${#nodes[@]}"
  fact processor/governor "$(sort -u /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor 2> /dev/null)"
  file processor/frequency_driver /sys/devices/system/cpu/cpu0/cpufreq/scaling_driver
  file processor/smt /sys/devices/system/cpu/smt/control
  read -r -a ticks < /proc/stat
  for part in "${ticks[@]:1:8}"; do all=$((all + part)); done
  # More than a thousandth since the start: other guests had this one's processor.
  if ((ticks[8] * 1000 > all)); then fact processor/steal some; else fact processor/steal none; fi
  if [[ -r /sys/fs/cgroup/cpu.max ]]; then
    file processor/limit /sys/fs/cgroup/cpu.max
  else
    file processor/limit /sys/fs/cgroup/cpu/cpu.cfs_quota_us
  fi
}

memory() {
  local key value swap=0
  while read -r key value _; do
    case $key in
      MemTotal:) fact memory/size "$((value * 1024))" ;;
      SwapTotal:) swap=$((value * 1024)) ;;
      Hugepagesize:) fact memory/huge_page "$((value * 1024))" ;;
    esac
  done < /proc/meminfo
  fact memory/swap "$swap"
  file memory/limit /sys/fs/cgroup/memory.max
  file memory/limit /sys/fs/cgroup/memory/memory.limit_in_bytes
}

# The file systems that a node works on, and what lies below them as far as it is to be seen.
disks() {
  local path name source='' type='' size='' model='' rotational='' transport='' scheduler=''
  for path in / /var/lib/etcd /var/lib/containerd /var/lib/kubelet; do
    [[ -d $path ]] || continue
    name=disk${path//\//_}
    read -r source type < <(findmnt -nro SOURCE,FSTYPE --target "$path" 2> /dev/null)
    fact "$name/file_system" "$type"
    read -r size < <(df -B1 --output=size "$path" 2> /dev/null | tail -n +2)
    fact "$name/size" "$size"
    source=${source%%\[*}
    [[ -b $source ]] || continue
    # From the partition down to the disk, which is the last.
    read -r source < <(lsblk -nslpo NAME "$source" 2> /dev/null | tail -n 1)
    IFS='|' read -r model rotational transport scheduler < <(
      lsblk -dPo MODEL,ROTA,TRAN,SCHED "$source" 2> /dev/null |
        sed -E 's/MODEL="(.*)" ROTA="(.*)" TRAN="(.*)" SCHED="(.*)"/\1|\2|\3|\4/'
    )
    fact "$name/model" "$model"
    fact "$name/rotational" "$rotational"
    fact "$name/transport" "$transport"
    fact "$name/scheduler" "$scheduler"
  done
}

# The interface that holds the node's address.
network() {
  local name='' key value path
  local -a queues
  read -r _ name _ < <(ip -o addr show to "$NODE_ADDRESS" 2> /dev/null)
  name=${name%%@*}
  if [[ $name ]]; then
    file nic/mtu "/sys/class/net/$name/mtu"
    file nic/speed "/sys/class/net/$name/speed"
    queues=("/sys/class/net/$name"/queues/rx-*)
    fact nic/queues "${#queues[@]}"
    while IFS=': ' read -r key value; do
      [[ $key == driver ]] && fact nic/driver "$value"
    done < <(ethtool -i "$name" 2> /dev/null)
    while IFS=': ' read -r key value; do
      case $key in
        tcp-segmentation-offload | generic-*-offload | *-checksumming | large-receive-offload)
          fact "nic/offload/$key" "${value%% *}"
          ;;
      esac
    done < <(ethtool -k "$name" 2> /dev/null)
  fi
  for path in /etc/cni/net.d/*.conf*; do
    [[ -r $path ]] && document "cni/${path##*/}" < "$path"
  done
  # Pods' ends of cables: what their packets may be at most.
  fact pods/mtu "$(cat /sys/class/net/{veth,cali,lxc}*/mtu 2> /dev/null | sort -un)"
  if [[ -r /etc/groundplane/keepalived.cfg ]]; then
    while read -r key value _; do
      [[ $key == virtual_router_id ]] && fact endpoint/router_id "$value"
    done < /etc/groundplane/keepalived.cfg
  fi
}

# All, but what is random, a key, or a pod's. Those that can only be written answer nothing.
sysctls() {
  (cd /proc/sys && grep -rsH '' fs kernel net vm user \
    --exclude-dir={random,'veth*','cali*','lxc*'} --exclude={tcp_fastopen_key,stable_secret}) |
    while IFS=: read -r name value; do
      fact "sysctl/${name//\//.}" "$value"
    done
}

programs() {
  local name pid path key version
  for name in kubelet containerd; do
    pid=$(systemctl show -p MainPID --value "$name" 2> /dev/null)
    if ((${pid:-0})); then
      # The file that runs, which an upgrade may have replaced on the disk.
      read -r version _ < <(sha256sum "/proc/$pid/exe" 2> /dev/null)
      fact "program/$name" "$version"
      tr '\0' '\n' < "/proc/$pid/cmdline" | document "process/$name"
      while read -r key version; do
        fact "process/$name/limits/$key" "$version"
      done < <(awk '/^Max (open files|locked memory|processes)/ {
        print $2, ($2 == "processes" ? $3 : $4) }' "/proc/$pid/limits")
      file "process/$name/oom_score_adj" "/proc/$pid/oom_score_adj"
    else
      fact "program/$name" "does not run"
    fi
  done
  for path in /usr/local/bin/{containerd-shim-runc-v2,runc} /usr/{s,}bin/runc /opt/cni/bin/*; do
    [[ -x $path && -f $path ]] || continue
    read -r version _ < <(sha256sum "$path" 2> /dev/null)
    fact "program/${path##*/}" "$version"
  done
  while read -r name version; do
    fact "package/$name" "$version"
  done < <(
    if type -P dpkg-query > /dev/null; then
      dpkg-query -W -f '${Package} ${Version}\n' haproxy keepalived conntrack iptables nftables
    else
      rpm -q --qf '%{NAME} %{VERSION}-%{RELEASE}\n' haproxy keepalived conntrack-tools iptables-nft \
        nftables | grep -v ' not '
    fi 2> /dev/null
  )
}

runtime() {
  local path name digest
  timeout 20 containerd config dump 2> /dev/null | document containerd
  for path in /etc/containerd/certs.d/*/hosts.toml; do
    # Its digest alone: it may hold what opens the registry.
    [[ -r $path ]] || continue
    read -r digest _ < <(sha256sum "$path")
    path=${path%/*}
    fact "registry/${path##*/}" "$digest"
  done
  while read -r name _ digest _; do
    # Those without a name of their own are the same images again, by digest.
    case $name in REF | sha256:* | *@sha256:*) continue ;; esac
    fact "store/$name" "$digest"
  done < <(timeout 20 ctr -n k8s.io images ls 2> /dev/null)
}

# ---- what only the API knows --------------------------------------------------------------------

api() {
  local nodes name fd
  local -a asked=()
  if ! nodes=$("${KUBECTL[@]}" get nodes -o json 2>&1); then
    echo "problem the API server here does not answer: ${nodes//$'\n'/ }"
    return
  fi
  # All at once: each is a process that mostly waits.
  exec {fd}< <(gates) && asked+=("$fd")
  exec {fd}< <(workloads) && asked+=("$fd")
  exec {fd}< <(objects) && asked+=("$fd")
  exec {fd}< <(settings) && asked+=("$fd")
  jq -c '[.items[] | {name: .metadata.name, labels: .metadata.labels, spec: {taints: .spec.taints,
      unschedulable: .spec.unschedulable}, capacity: .status.capacity,
      allocatable: .status.allocatable, info: (.status.nodeInfo | del(.machineID, .systemUUID, .bootID)),
      ready: any(.status.conditions[]?; .type == "Ready" and .status == "True")}]' <<< "$nodes" |
    document api/nodes
  while read -r name; do
    # The kubelet's own answer: what it runs with, whatever its file says by now.
    "${KUBECTL[@]}" get --raw "/api/v1/nodes/$name/proxy/configz" 2> /dev/null |
      jq -c .kubeletconfig 2> /dev/null | document "api/kubelet/$name"
  done < <(jq -r '.items[].metadata.name' <<< "$nodes")
  for fd in "${asked[@]}"; do
    cat <&"$fd"
    exec {fd}<&-
  done
}

gates() { # of the API server here, as they are in effect
  local name value
  "${KUBECTL[@]}" get --raw /version 2> /dev/null | jq -c . | document api/version
  "${KUBECTL[@]}" get --raw /metrics 2> /dev/null |
    sed -nE 's/^kubernetes_feature_enabled\{name="([^"]*)",.*\} ([01])$/\1 \2/p' |
    while read -r name value; do fact "gates/$name" "$value"; done
}

# What people and add-ons run: owners by their specification, pods by the images that run in them.
# Of a pod itself only one that nobody else made, or that stands in a file of its node.
workloads() {
  "${KUBECTL[@]}" get "$WORKLOADS" -A -o json 2> /dev/null | jq -c '
    def mirror: .metadata.annotations["kubernetes.io/config.mirror"] != null;
    [.items[] | select(.kind != "Pod" or mirror or .metadata.ownerReferences == null) |
      {kind, namespace: .metadata.namespace, name: .metadata.name, node: .spec.nodeName,
       static: (.kind == "Pod" and mirror),
       ready: (if .kind == "Deployment" or .kind == "StatefulSet"
               then (.status.readyReplicas // 0) == (.spec.replicas // 1)
               elif .kind == "DaemonSet"
               then (.status.numberReady // 0) == (.status.desiredNumberScheduled // 0)
               else null end),
       spec: (if .kind == "Pod" then {containers: [.spec.containers[] |
                {name, image, command, args, env, resources}]}
              else .spec | del(.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"])
              end)}] as $specs |
    {specs: $specs, running: ([.items[] | select(.kind == "Pod" and .status.phase == "Running") |
      .status.containerStatuses[]? | select(.imageID != "") | [.image, .imageID]] | unique)}' |
    document api/workloads
}

objects() {
  "${KUBECTL[@]}" get "$OBJECTS" -o json 2> /dev/null |
    jq -c '[.items[] | [.kind, .metadata.name]]' | document api/objects
}

settings() {
  "${KUBECTL[@]}" -n kube-system get configmaps kube-proxy coredns --ignore-not-found -o json \
    2> /dev/null | jq -c '[(.items // [.])[] | {name: .metadata.name, data}]' | document api/settings
}

# As a function, so that a script cut off on its way runs nothing; and nobody reads the script's
# own stdin.
look < /dev/null
