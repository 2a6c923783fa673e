# shellcheck shell=bash
# Updates of the system's own packages. What Kubernetes stands on comes from the catalogue; a package
# of that kind which somebody else installed stays as it is, and so do packages on hold.
# Data: .patching {packages}

readonly PATCHES=$RUN/patches # what is to be upgraded, one a line
readonly UNTOUCHED=(kubeadm kubectl kubelet kubernetes-cni cri-o cri-tools containerd containerd.io
  docker-ce docker.io moby-engine runc)

# patches_ready: all that is needed is here and can be installed; nobody has been disturbed yet.
patches_ready() {
  if command -v apt-get >/dev/null; then
    apt_repair
    apt -o APT::Update::Error-Mode=any update || patches_failed "the package lists cannot be had" "apt-get update"
    apt_patches >"$PATCHES"
    [ ! -s "$PATCHES" ] || patches_apt --download-only ||
      patches_failed "packages cannot be had" "apt-get --download-only upgrade"
  else
    dnf_patches >"$PATCHES"
    [ ! -s "$PATCHES" ] || patches_dnf --downloadonly ||
      patches_failed "packages cannot be had" "dnf upgrade --downloadonly"
  fi
}

patches_install() {
  [ -s "$PATCHES" ] || return 0
  if command -v apt-get >/dev/null; then
    patches_apt || patches_failed "packages are not upgraded" "apt-get upgrade"
  else
    patches_dnf || patches_failed "packages are not upgraded" "dnf upgrade"
  fi
  changed "upgraded $(paste -sd' ' "$PATCHES")"
}

# patches_failed CAUSE COMMAND
patches_failed() {
  die "$1: $(tail -n 3 "$RUN/apt" | tr '\n' ' ')" "by hand: $2; then run the same command again"
}

# apt_repair: what a dpkg that was cut off left, before anything is asked of it.
apt_repair() {
  local deadline=$((SECONDS + 300))
  until DEBIAN_FRONTEND=noninteractive LC_ALL=C dpkg --force-confdef --force-confold --configure -a \
    >"$RUN/apt" 2>&1; do
    if ! grep -q 'locked by another process' "$RUN/apt" || [ "$SECONDS" -ge "$deadline" ]; then
      patches_failed "dpkg was cut off here, and cannot go on" "dpkg --configure -a"
    fi
    sleep 1
  done
  apt -y --fix-broken install || patches_failed "packages do not fit each other" "apt-get --fix-broken install"
}

# apt_patches: NAME=VERSION of what is installed and can be newer. apt says it as
#   Inst NAME [OLD] (NEW ORIGIN:RELEASE/SUITE [ARCH])
apt_patches() {
  LC_ALL=C apt-get -s -qq --with-new-pkgs upgrade >"$RUN/apt" 2>&1 ||
    patches_failed "apt cannot tell what to upgrade" "apt-get -s upgrade"
  awk -v only="$(data .patching.packages)" -v untouched="${UNTOUCHED[*]}" '
    BEGIN { split(untouched, names); for (n in names) kept[names[n]] = 1 }
    $1 != "Inst" || $3 !~ /^\[/ || $2 in kept { next }
    only == "security" && $0 !~ /-[Ss]ecurity/ { next }
    match($0, /\([^ ]+/) { print $2 "=" substr($0, RSTART + 1, RLENGTH - 1) }' "$RUN/apt"
}

# Configuration that somebody changed stays; what a new package needs besides comes with it.
patches_apt() {
  local wanted
  mapfile -t wanted <"$PATCHES"
  apt -y "$@" -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-remove \
    --only-upgrade install "${wanted[@]}"
}

# dnf waits for its lock by itself, for as long as it takes.
# shellcheck disable=SC2046 # one word or none
dnf_patches() {
  local status=0
  timeout 600 dnf -q "$(dnf_untouched)" check-update $(dnf_only) >"$RUN/apt" 2>&1 || status=$?
  case $status in
    0) ;;
    100) awk 'NF == 3 { print $1 }' "$RUN/apt" ;;
    *) patches_failed "dnf cannot tell what to upgrade" "dnf check-update" ;;
  esac
}

# shellcheck disable=SC2046 # one word or none
patches_dnf() {
  timeout 1800 dnf -q -y "$(dnf_untouched)" upgrade $(dnf_only) "$@" >"$RUN/apt" 2>&1
}

dnf_only() { [ "$(data .patching.packages)" = all ] || echo --security; }

dnf_untouched() { local IFS=,; echo "--exclude=${UNTOUCHED[*]}"; }
