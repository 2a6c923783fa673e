# shellcheck shell=bash
# Looking at etcd and taking a member out, with the certificate of a client.
# Data: .name .address .endpoint {peers {name: address}}

# etcd_at ENDPOINTS ARGUMENTS...
etcd_at() {
  local endpoints=$1
  shift
  etcdctl --endpoints "$endpoints" --command-timeout 10s --dial-timeout 3s \
    --cacert "$ETCD_CA" --cert "$ETCD_CLIENT.crt" --key "$ETCD_CLIENT.key" "$@"
}

# etcd_url ADDRESS
etcd_url() { case "$1" in *:*) echo "https://[$1]:2379" ;; *) echo "https://$1:2379" ;; esac; }

# The endpoints of the control planes that the specification names, comma separated.
etcd_peers() {
  local address urls=()
  while read -r address; do urls+=("$(etcd_url "$address")"); done \
    < <(data '.endpoint.peers[]')
  local IFS=,
  echo "${urls[*]}"
}

# The same without this host's own: who is to leave must not be the one that is asked for it.
etcd_others() {
  etcd_peers | tr , '\n' | grep -vxF "$(etcd_url "$(data .address)")" | paste -sd,
}

# etcd_remove ENDPOINTS ID: a leader that leaves may take the answer along, so the list tells.
etcd_remove() {
  within 30 etcd_removed "$1" "$2" ||
    die "etcd does not let member $2 go: $(tail -n 1 "$RUN/etcdctl")" \
      "are enough of the other members healthy?"
}

etcd_removed() {
  etcd_at "$1" member remove "$2" >/dev/null 2>"$RUN/etcdctl" ||
    etcd_at "$1" -w json --hex member list | jq -e --arg id "$2" 'all(.members[]; .ID != $id)' >/dev/null
}

# etcd_remove_own [WHICH]: this host's member, as the others know it.
etcd_remove_own() {
  local id name others
  others=$(etcd_others)
  while read -r id name _; do
    [ "$name" = "$(data .name)" ] || continue
    etcd_remove "$others" "$id"
    changed "etcd member $name${1:-} removed"
  done < <(etcd_members_named "$others")
}

# A member that never started has no name; its peer address tells whose it is.
etcd_members_named() {
  etcd_at "$1" -w json --hex member list | jq -r --arg self "$(data .name)" --arg address "$(data .address)" '
    .members[] | .ID + " " + (if (.name // "") != "" then .name
      elif any(.peerURLs[]; contains("//\($address):") or contains("//[\($address)]:")) then $self
      else "-" end)'
}

# etcd_members ENDPOINTS: one line a member: ID NAME CLIENT_URL voter|learner healthy|unhealthy.
# A member that was added and never started has the name "-".
etcd_members() {
  local id name url learner health
  etcd_at "$1" -w json --hex member list |
    jq -r '.members[] | [
      .ID,
      (.name // "" | if . == "" then "-" else . end),
      (.clientURLs // [.peerURLs[0] | sub(":2380$"; ":2379")])[0],
      (if .isLearner then "learner" else "voter" end)] | join(" ")' |
    while read -r id name url learner; do
      health=unhealthy
      if etcd_at "$url" endpoint health >/dev/null 2>&1; then health=healthy; fi
      echo "$id $name $url $learner $health"
    done
}
