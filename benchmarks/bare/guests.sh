#!/usr/bin/env bash
# The bare cluster's guests, by virt-install on their hypervisor. Read by bash from stdin: the
# settings stand before it, and the verb that is to be run behind it. See cluster.sh.
set -euo pipefail

POOL=/var/lib/libvirt/images

# All of them at once, as soon as the image is here.
guests() {
  local name job making=()
  curl -sSf -o "$POOL/image.qcow2" "$IMAGE"
  # Or each of them would make a pool of this folder's name.
  virsh -q -c qemu:///system pool-create-as images dir --target "$POOL"
  for name in "${!MAC[@]}"; do
    guest "$name" &
    making+=($!)
  done
  for job in "${making[@]}"; do wait "$job"; done
}

# guest NAME: starts it. Its disk holds what differs from the image.
guest() {
  local disk=$POOL/$1.qcow2 seed=$POOL/$1.iso
  seed "$1" "$seed"
  qemu-img create -q -f qcow2 -b image.qcow2 -F qcow2 "$disk" "${GIB[$1]}G"
  # The seed is a disk and not by --cloud-init, which makes a CD-ROM of it that is on SATA: Debian's
  # kernel for clouds has no driver for that.
  virt-install --quiet --connect qemu:///system --name "$1" --import --noautoconsole \
    --virt-type "$ACCELERATOR" --machine q35 --osinfo linux2022 --graphics none \
    --cpu "mode=${CPU[$1]}" --vcpus "${VCPUS[$1]}" --memory "${MEMORY[$1]}" \
    --disk "$disk,${DRIVER[$1]}" --disk "$seed,format=raw,bus=virtio,readonly=on" \
    --network "bridge=$BRIDGE,mac=${MAC[$1]},model=virtio"
}

# seed NAME FILE: what cloud-init reads. It holds the guest's private host key.
seed() (
  umask 077
  files=$(mktemp -d)
  trap 'rm -r "$files"' EXIT
  cat >"$files/meta-data" <<<"${META_DATA[$1]}"
  cat >"$files/network-config" <<<"${NETWORK[$1]}"
  cat >"$files/user-data" <<<"${USER_DATA[$1]}"
  genisoimage -quiet -output "$2" -volid cidata -joliet -rock "$files"
)
