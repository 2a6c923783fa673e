# shellcheck shell=bash
# The documents of a guest: libvirt's domain, and the NoCloud seed that it is installed by.
# Data: .domain .pool .definition .seed .name .address .image .disk_gib .disks

# virsh, as the administrator of this hypervisor, without headings.
vir() { virsh -q -c qemu:///system "$@"; }

domain_state() { LC_ALL=C vir domstate "$(data .domain)" 2>/dev/null | head -n 1; }
domain_runs() { [ "$(domain_state)" = running ]; }
domain_is_off() { case "$(domain_state)" in '' | 'shut off') ;; *) return 1 ;; esac; }

guest_folder() { printf '%s/%s' "$(data .pool)" "$(data .domain)"; }
image_path() { printf '%s/images/%s.qcow2' "$(data .pool)" "$1"; }

# In memory: the private half of the guest's host key never touches a disk of this hypervisor.
readonly SEEDS=/run/groundplane-seeds
seed_path() { printf '%s/%s.iso' "$SEEDS" "$(data .domain)"; }

# ---- the domain ------------------------------------------------------------------------------

# domain_xml [SEED]: from .definition; with the seed only while the guest is installed.
domain_xml() {
  jq -r --arg seed "${1:-}" --arg folder "$(guest_folder)" --arg image "$(image_path "$(data .image)")" '
    def text: tostring | gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;")
      | gsub("\u0027"; "&apos;") | gsub("\""; "&quot;");
    def attribute($name): if . == null then "" else " \($name)=\u0027\(text)\u0027" end;
    def element($name): if . == null then empty else "<\($name)>\(text)</\($name)>" end;
    def mib($name): if . == null then empty else "<\($name) unit=\u0027MiB\u0027>\(.)</\($name)>" end;
    def within($name): if length == 0 then empty else "<\($name)>", ("  " + .[]), "</\($name)>" end;
    # The letters of the n-th disk, as the kernel counts on: vda to vdz, vdaa.
    def letters: if . < 26 then [97 + .] | implode else (. / 26 | floor - 1 | letters) + (. % 26 | letters) end;
    # The image stays its own and is given to no emulator, which would touch it at each start.
    def backing:
      "<backingStore type=\u0027file\u0027>",
      "  <format type=\u0027qcow2\u0027/>",
      "  <source file=\u0027\($image)\u0027><seclabel model=\u0027dac\u0027 relabel=\u0027no\u0027/></source>",
      "  <backingStore/>",
      "</backingStore>";
    def disk($number; $file; $serial; $threads):
      "<disk type=\u0027file\u0027 device=\u0027disk\u0027>",
      "  <driver name=\u0027qemu\u0027 type=\u0027qcow2\u0027" + (.cache | attribute("cache")) + (.io | attribute("io"))
        + (.discard | attribute("discard"))
        + (if $threads > 0 then $number % $threads + 1 else null end | attribute("iothread")) + "/>",
      "  <source file=\u0027\($folder)/\($file).qcow2\u0027/>",
      (if $number == 0 then "  " + backing else empty end),
      "  <target dev=\u0027vd\($number | letters)\u0027 bus=\u0027virtio\u0027/>",
      ("  " + ([(.bytes | element("total_bytes_sec")), (.iops | element("total_iops_sec"))] | within("iotune"))),
      ("  " + ($serial | element("serial"))),
      "</disk>";
    def hostdev:
      if .pci then
        (.pci | capture("(?<d>.{4}):(?<b>..):(?<s>..)[.](?<f>.)")) as $at |
        "<hostdev mode=\u0027subsystem\u0027 type=\u0027pci\u0027 managed=\u0027yes\u0027>",
        "  <source><address domain=\u00270x\($at.d)\u0027 bus=\u00270x\($at.b)\u0027 slot=\u00270x\($at.s)\u0027 function=\u00270x\($at.f)\u0027/></source>",
        "</hostdev>"
      else
        "<hostdev mode=\u0027subsystem\u0027 type=\u0027mdev\u0027 model=\u0027vfio-pci\u0027>",
        "  <source><address uuid=\u0027\(.mediated)\u0027/></source>",
        "</hostdev>"
      end;
    def devices($all):
      (.iothreads // 0) as $threads |
      (.disk | disk(0; "disk"; "root"; $threads)),
      (.disks // [] | to_entries[] | .key as $n | .value | .name as $name | disk($n + 1; "data-" + $name; $name; $threads)),
      (if $seed == "" then empty else
        "<disk type=\u0027file\u0027 device=\u0027disk\u0027>",
        "  <driver name=\u0027qemu\u0027 type=\u0027raw\u0027/>",
        "  <source file=\u0027\($seed)\u0027/>",
        "  <target dev=\u0027vdzz\u0027 bus=\u0027virtio\u0027/>",
        "  <readonly/>",
        "</disk>" end),
      (if .bridge then
        "<interface type=\u0027bridge\u0027>", "  <source bridge=\u0027\(.bridge | text)\u0027/>"
       else
        "<interface type=\u0027direct\u0027>", "  <source dev=\u0027\(.macvtap | text)\u0027 mode=\u0027bridge\u0027/>" end),
      "  <mac address=\u0027\(.mac)\u0027/>",
      "  <model type=\u0027virtio\u0027/>",
      "</interface>",
      "<serial type=\u0027pty\u0027>",
      "  <log file=\u0027\($folder)/console.log\u0027 append=\u0027on\u0027/>",
      "  <target port=\u00270\u0027/>",
      "</serial>",
      "<console type=\u0027pty\u0027><target type=\u0027serial\u0027 port=\u00270\u0027/></console>",
      "<rng model=\u0027virtio\u0027><backend model=\u0027random\u0027>/dev/urandom</backend></rng>",
      (.devices // [] | .[] | hostdev);
    . as $all | .definition | (.arch == "amd64") as $pc |
    "<domain type=\u0027\(.accelerator)\u0027>",
    ("  " + (
      ($all.domain | element("name")),
      (.uuid | element("uuid")),
      (.memory_mib | mib("memory")),
      "<vcpu placement=\u0027static\u0027>\(.vcpus)</vcpu>",
      (.iothreads | element("iothreads")),
      ([(.cpu.shares | element("shares")),
        (.cpu.quota | if . == null then empty else "<global_period>100000</global_period>", element("global_quota") end),
        (.vcpus as $n | .cpu.pin // [] | . as $pin | if . == [] then empty else range($n) as $i
          | "<vcpupin vcpu=\u0027\($i)\u0027 cpuset=\u0027\($pin[$i % ($pin | length)])\u0027/>" end)] | within("cputune")),
      ([(.memory.hard_limit_mib | mib("hard_limit")), (.memory.soft_limit_mib | mib("soft_limit"))] | within("memtune")),
      ([.memory.numa_nodes // empty | "<memory mode=\u0027strict\u0027 nodeset=\u0027\(.)\u0027/>"] | within("numatune")),
      ([.memory.hugepages_kib // empty | "<hugepages><page size=\u0027\(.)\u0027 unit=\u0027KiB\u0027/></hugepages>"] | within("memoryBacking")),
      "<os" + (if $pc then "" else " firmware=\u0027efi\u0027" end) + ">",
      (if $pc then "  <type arch=\u0027x86_64\u0027 machine=\u0027q35\u0027>hvm</type>"
       else "  <type arch=\u0027aarch64\u0027 machine=\u0027virt\u0027>hvm</type>" end),
      "  <boot dev=\u0027hd\u0027/>",
      "</os>",
      (if $pc then "<features><acpi/><apic/></features>" else "<features><acpi/><gic/></features>" end),
      (.cpu.mode | if IN("host-passthrough", "host-model", "maximum") then "<cpu mode=\u0027\(.)\u0027/>"
       else "<cpu mode=\u0027custom\u0027 match=\u0027exact\u0027><model fallback=\u0027forbid\u0027>\(text)</model></cpu>" end),
      "<clock offset=\u0027utc\u0027/>",
      "<on_poweroff>destroy</on_poweroff>",
      "<on_reboot>restart</on_reboot>",
      "<on_crash>restart</on_crash>",
      ([devices($all)] | within("devices"))
    )),
    "</domain>"' "$DATA"
}

# ---- the seed --------------------------------------------------------------------------------

seed_meta_data() { jq '{"instance-id": .token, "local-hostname": .name}' "$DATA"; }

# Version 2 as cloud-init has it; every way in which it writes networks knows these keys.
seed_network_config() {
  jq '.seed as $seed | (if .address | contains(":") then "gateway6" else "gateway4" end) as $gateway |
    {version: 2, ethernets: {nic0: ({
      match: {macaddress: .definition.mac},
      addresses: ["\(.address)/\($seed.prefix)"],
      # Nothing but what is said here: networkd would wait for a router first, 13 s.
      "accept-ra": false, dhcp4: false, dhcp6: false
    } + if $seed.gateway then {($gateway): $seed.gateway} else {} end
      + if $seed.dns then {nameservers: {addresses: $seed.dns}} else {} end)}}' "$DATA"
}

# seed_user_data KEY: KEY is the guest's private host key, KEY.pub the public one. JSON is YAML.
seed_user_data() {
  echo '#cloud-config'
  jq --rawfile private "$1" --rawfile public "$1.pub" --arg grow "$(grow_unit)" '.seed as $seed |
    (if .definition.arch == "amd64" then "/dev/ttyS0" else "/dev/ttyAMA0" end) as $serial |
    {
      hostname: .name, preserve_hostname: false, manage_etc_hosts: "localhost",
      ssh_pwauth: false, disable_root: ($seed.user != "root"), ssh_deletekeys: true,
      ssh_keys: {ed25519_private: $private, ed25519_public: $public},
      users: [{name: $seed.user, lock_passwd: true, ssh_authorized_keys: $seed.keys}
        + if $seed.user == "root" then {} else {sudo: "ALL=(ALL) NOPASSWD:ALL", shell: "/bin/bash"} end],
      write_files: [{path: "/etc/systemd/system/groundplane-grow.service", content: $grow}],
      runcmd: [
        ["systemctl", "enable", "--now", "groundplane-grow"],
        # It has said all that it has to say, and must not begin anew without its seed.
        ["touch", "/etc/cloud/cloud-init.disabled"],
        ["sh", "-c", "echo groundplane: installed \(.token) >\($serial)"]
      ]
    }' "$DATA"
}

# A disk that has grown is used from the next start on.
grow_unit() {
  cat <<'UNIT'
[Unit]
Description=The root file system takes the whole disk
After=local-fs.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'root=$(findmnt -no SOURCE /); disk=/dev/$(lsblk -no PKNAME "$root"); growpart "$disk" "$(cat /sys/class/block/"$${root##*/}"/partition)" || true; case $(findmnt -no FSTYPE /) in ext4) resize2fs "$root" ;; xfs) xfs_growfs / ;; btrfs) btrfs filesystem resize max / ;; esac'

[Install]
WantedBy=multi-user.target
UNIT
}
