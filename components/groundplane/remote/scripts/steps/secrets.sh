# shellcheck shell=bash
# secrets: what a host must know and nobody else. Travels apart from all other data, since a
# secret input hides its whole diff.
# Data: control plane: .identity {PATH: TEXT} .encryption .backup {recipient target proxy}
#       worker: .join_token .ca      both: .registry {address ca username password}
#       .ssh is new where SSH's settings are: the connection of this step proves them

apply() {
  local path
  for path in $(data '.identity // {} | keys[]'); do
    # To the byte as the founder has it, where nothing is to change.
    put_file "$PKI/$path" 0600 < <(jq -j --arg path "$path" '.identity[$path]' "$DATA") || true
  done
  ! is_control_plane || encryption_readable
  [ -z "$(data .join_token)" ] || put_file "$STATE/join/token" 0600 < <(data .join_token) || true
  [ -z "$(data .ca)" ] || put_file "$STATE/join/ca.crt" 0600 < <(data .ca) || true
  registry_apply
  if [ -n "$(data .backup.recipient)" ]; then
    put_file "$BACKUP_SECRETS" 0600 < <(data_json .backup) || true
  else
    remove_paths "$BACKUP_SECRETS"
  fi
}

destroy() { remove_paths /etc/groundplane "$STATE/join"; }

# A key that is new to this host can be read with at once, and is not written with before every
# control plane can read it: that is the node step's part, behind the gate.
encryption_readable() {
  local in_use reloading=$RUN/encryption-reloading
  in_use=$(encryption_in_use)
  [ -n "$in_use" ] || return 0
  if ! same_file "$OURS/encryption.json" < <(encryption_configuration "$in_use"); then
    : >"$reloading"
    encryption_configuration "$in_use" | write_atomically "$OURS/encryption.json" 0600
    changed "$OURS/encryption.json"
  fi
  [ -e "$reloading" ] || return 0
  wait_until 180 "the API server has read the new encryption key" encryption_loaded
  rm -f "$reloading"
}

# This host's own API server is asked, since the endpoint may lead to another. It looks once a minute.
encryption_loaded() {
  kube --server=https://localhost:6443 --tls-server-name=kubernetes get --raw /metrics |
    grep '^apiserver_encryption_config_controller_last_config_info' |
    grep -q "sha256:$(digest <"$OURS/encryption.json")"
}
