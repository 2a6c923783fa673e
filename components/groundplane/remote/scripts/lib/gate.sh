# shellcheck shell=bash
# The disturbance gate: in front of every path that takes a node down. Whoever passes holds a slot
# in the cluster until the node is healthy again or gone; `depends_on` alone cannot promise that,
# since deletes are not chained.
# A slot is a ConfigMap and no Lease: workers come with their kubelet's credential, and
# NodeRestriction keeps nodes away from all Leases but their heartbeat's.
# Data: .name .address .role .max_unavailable .endpoint

readonly GATE_NAMESPACE=groundplane

# quorum_allows ACTION SELF MEMBERS: may this member be disturbed, leave, or join?
# ACTION disturb | leave | join; SELF a member's name; MEMBERS as etcd_members prints them.
# Says why not. A pure function: its table of cases is tests/scripts/cases/quorum.yaml.
quorum_allows() {
  awk -v action="$1" -v self="$2" '
    $4 == "learner" { learner = $2 }
    $4 == "voter"   { voters++; if ($5 == "healthy") healthy++; else sick = sick " " $2 }
    $2 == self      { known = 1; fit = ($5 == "healthy") }
    END {
      if (learner != "") { print "member " learner " is still a learner"; exit 1 }
      # etcd refuses to add a member then, and kubeadm would try for minutes.
      if (action == "join" && sick != "") { print "not healthy:" sick; exit 1 }
      if (action == "leave" && known && voters == 1) { print "it is the only member"; exit 1 }
      if (!known || !fit) exit 0         # nothing is lost by disturbing what is down already
      after = (action == "leave") ? voters - 1 : voters
      if (voters > 1 && healthy - 1 < int(after / 2) + 1) {
        print "etcd would keep " healthy - 1 " of " after " members, fewer than its quorum;" \
          " not healthy:" (sick == "" ? " none" : sick)
        exit 1
      }
    }' <<<"$3"
}

# kube ARGUMENTS...: kubectl as this node may: control planes as administrator, workers as their
# own kubelet, whose rights NodeRestriction limits to its own Node and Pods.
# Asked again for a few seconds where a control plane in motion answers: an API server that has
# just started forbids everybody everything, one that ends breaks off, etcd chooses a leader.
kube() {
  local config=${KUBECONFIG:-} input="" answer said tries=5 status=0
  if [ -z "$config" ]; then
    config=$KUBELET_CONF
    [ ! -e "$ADMIN_CONF" ] || config=$ADMIN_CONF
  fi
  [[ " $* " != *" -f - "* ]] || input=$(cat)
  said=$(mktemp "$RUN/kube.XXXXXX")
  until answer=$(kubectl --kubeconfig "$config" --request-timeout 15s "$@" 2>"$said" <<<"$input"); do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ] || ! grep -qE "$IN_MOTION" "$said"; then status=1; break; fi
    sleep 1
  done
  [ -z "$answer" ] || printf '%s\n' "$answer"
  cat "$said" >&2
  rm -f "$said"
  return "$status"
}

readonly IN_MOTION=' is forbidden: |connection refused|unexpected EOF|: EOF|TLS handshake timeout|'\
'leader changed|request timed out|currently unable to handle'

# kube_apply <documents: whoever is the first to apply something waits while the API server works
# out its whole schema, which takes a slow machine longer than any other answer.
kube_apply() { kube --request-timeout 60s apply --server-side --force-conflicts -f - >/dev/null; }

# slot NAME [RESOURCE_VERSION]: held by this node; with a version, only if nobody was quicker.
slot() {
  jq -nc --arg name "$1" --arg holder "$(data .name)" --arg version "${2:-}" \
    --arg since "$(date -u +%FT%TZ)" --arg namespace "$GATE_NAMESPACE" \
    '{apiVersion: "v1", kind: "ConfigMap",
      metadata: ({name: $name, namespace: $namespace}
                 + if $version == "" then {} else {resourceVersion: $version} end),
      data: {holder: $holder, since: $since}}'
}

# The slots that this node may hold: control planes share one, workers have max_unavailable.
gate_slots() {
  if [ "$(data .role)" = control-plane ]; then echo control-plane
  else seq -f 'worker-%g' "$(data .max_unavailable)"; fi
}

# gate_take: one of the slots, when free, ours already, or left by a node that is gone.
gate_take() {
  local slot holder version
  for slot in $(gate_slots); do
    holder=$(kube -n "$GATE_NAMESPACE" get configmap "$slot" --ignore-not-found \
      -o jsonpath='{.data.holder} {.metadata.resourceVersion}') || return 1
    read -r holder version <<<"$holder" || true
    if [ "$holder" = "$(data .name)" ]; then return 0; fi
    if [ -z "$holder" ]; then
      gate_try create < <(slot "$slot") && return 0
    elif [ -z "$(kube get node "$holder" --ignore-not-found -o name)" ]; then
      # The resource version makes the take-over fail for all but one of those who try it.
      gate_try replace < <(slot "$slot" "$version") && return 0
    fi
  done
  return 1
}

# gate_try VERB: what can be lost to another is tried again; a refusal would stay one for ever.
gate_try() {
  local answer
  answer=$(kube "$1" -f - 2>&1) && return 0
  ! grep -q 'database space exceeded' <<<"$answer" || die "etcd takes no writes: $answer" \
    "compact and defragment etcd, then \`etcdctl alarm disarm\`"
  ! grep -q Forbidden <<<"$answer" || die "$(data .name) may not take its turn: $answer" \
    "the membership step gives nodes this right; run the same command again"
  return 1
}

gate_holders() {
  kube -n "$GATE_NAMESPACE" get configmaps -o jsonpath=\
'{range .items[?(@.data.holder)]}{.data.holder} since {.data.since}; {end}' || true
}

# gate_enter ACTION: waits for its turn, then for the cluster to be able to bear it.
gate_enter() {
  local action=$1 deadline=$((SECONDS + 900)) members alarms reason check disturbed=""
  # What is disturbed already may be just what an add-on complains of: it is not asked about again.
  [[ "; $(gate_holders)" != *"; $(data .name) since "* ]] || disturbed=1
  until gate_take; do
    [ "$SECONDS" -lt "$deadline" ] || die "waited 900 s for its turn; disturbed now: $(gate_holders)" \
      "heal that node (or remove it from the specification), then run the same command again"
    sleep 1
  done
  if [ -z "$disturbed" ] && node_is_ready; then
    # What the node before left to be mended may take its time.
    until reason=$(gate_asks); do
      [ "$SECONDS" -lt "$deadline" ] || gate_refuse "$reason" "see to that, then run the same command again"
      sleep 5
    done
  fi
  [ "$(data .role)" = control-plane ] || return 0
  members=$(etcd_members "$(etcd_peers)") || gate_refuse "no etcd member answers"
  # What an unfinished join of this host left is about to be taken out, behind this very gate.
  [ "$action" != join ] || members=$(others "$members")
  alarms=$(etcd_at "$(etcd_peers)" alarm list) || gate_refuse "etcd does not answer"
  [ -z "$alarms" ] || gate_refuse "etcd raised an alarm: $alarms"
  reason=$(quorum_allows "$action" "$(data .name)" "$members") || gate_refuse "$reason"
  for check in /etc/groundplane/gate.d/*; do
    [ ! -x "$check" ] || reason=$("$check" "$action" "$(data .name)" 2>&1) || gate_refuse "$reason"
  done
}

node_is_ready() {
  [ "$(kube get node "$(data .name)" --ignore-not-found -o \
    jsonpath='{.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

# gate_asks: whether all that add-ons want to be asked lets a healthy node be disturbed; says why
# not. Each is a ConfigMap with the label groundplane.io/gate=check: an object (namespace,
# resource), what is read of it (jsonpath), an extended regular expression that must not match it
# (refuses), and what it means if it does (why).
# They are data and no programs, and what was read is not repeated: nodes can write ConfigMaps
# here, and none may have another one run or tell what it says.
gate_asks() {
  local checks check namespace resource path refuses why answer
  if ! checks=$(kube -n "$GATE_NAMESPACE" get configmaps -l groundplane.io/gate=check -o json); then
    echo "what add-ons ask for cannot be read"
    return 1
  fi
  while IFS= read -r check; do
    { read -r namespace; read -r resource; read -r path; read -r refuses; read -r why; } \
      < <(jq -r '.data | .namespace, .resource, .jsonpath, .refuses, .why' <<<"$check")
    if ! answer=$(kube -n "$namespace" get --ignore-not-found -o "jsonpath=$path" -- "$resource"); then
      echo "$resource cannot be read"
      return 1
    fi
    if grep -qE -e "$refuses" <<<"$answer"; then
      echo "$why"
      return 1
    fi
  done < <(jq -c '.items[]' <<<"$checks")
}

# others MEMBERS: those that neither have this host's name nor its address.
others() {
  awk -v self="$(data .name)" -v url="$(etcd_url "$(data .address)")" \
    '$2 != self && $3 != url' <<<"$1"
}

# gate_refuse WHY [REMEDY]
gate_refuse() {
  gate_leave
  die "refused to disturb $(data .name): $1" "${2:-bring the other control planes back first}"
}

gate_leave() {
  local slot
  for slot in $(gate_slots); do
    [ "$(kube -n "$GATE_NAMESPACE" get configmap "$slot" --ignore-not-found \
      -o jsonpath='{.data.holder}')" = "$(data .name)" ] || continue
    kube -n "$GATE_NAMESPACE" delete configmap "$slot" >/dev/null
  done
}

# ---- a node out of service and back ----------------------------------------------------------

node_drain() {
  local name
  name=$(data .name)
  [ -n "$(kube get node "$name" --ignore-not-found -o name)" ] || return 0
  # Only a cordon of ours is taken back afterwards; an administrator's stays.
  [ "$(kube get node "$name" -o jsonpath='{.spec.unschedulable}')" = true ] ||
    write_atomically "$STATE/cordoned" 0600 <<<"$STEP"
  kube cordon "$name" >/dev/null
  changed "$name cordoned"
  # No request timeout: drain bounds itself.
  if ! kube --request-timeout 0 drain "$name" --ignore-daemonsets --delete-emptydir-data --force \
      --timeout 300s >"$RUN/drain" 2>&1; then
    node_uncordon
    gate_leave
    die "pods did not leave $name: $(tail -n 3 "$RUN/drain" | tr '\n' ' ')" \
      "let the named disruption budgets allow one more pod to go, then run the same command again"
  fi
  changed "$name drained"
}

node_uncordon() {
  [ -e "$STATE/cordoned" ] || return 0
  kube uncordon "$(data .name)" >/dev/null
  rm -f "$STATE/cordoned"
  changed "$(data .name) uncordoned"
}
