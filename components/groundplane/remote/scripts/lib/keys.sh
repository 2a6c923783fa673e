# shellcheck shell=bash
# What control planes work out from the cluster's secret, which is a part of its identity: the keys
# of Secrets at rest, and the workers' join tokens. Who has the identity has them all, so none can
# be lost: a new state, a control plane that joins and a restored cluster need no other copy.
# Data: .encryption

# from_secret PURPOSE: 32 bytes, the same on each control plane, that nobody else can work out.
from_secret() {
  local secret
  secret=$(cat "$PKI/groundplane.key")
  printf '%s:%s' "$1" "${secret:?is not on this host}" | openssl dgst -sha256 -binary
}

# encryption_apply: Secrets are written with the key that is asked for, by each API server that
# starts from now on.
encryption_apply() {
  put_file "$OURS/encryption.json" 0600 < <(encryption_configuration "$(data .encryption)") || true
}

# encryption_configuration GENERATION: Secrets are written with the key of this generation, and read
# with those of all, up to the newest that this host was ever asked for.
encryption_configuration() {
  local generation
  seq "$(encryption_newest)" -1 1 | while read -r generation; do
    printf 'key%s ' "$generation"
    from_secret "encryption:$generation" | base64 -w0
    echo
  done | jq -cRn --arg first "key$1" '
    [inputs / " " | {name: .[0], secret: .[1]}]
    | {apiVersion: "apiserver.config.k8s.io/v1", kind: "EncryptionConfiguration",
       resources: [{resources: ["secrets"], providers: [
         {secretbox: {keys: (map(select(.name == $first)) + map(select(.name != $first)))}},
         {identity: {}}]}]}'
}

encryption_newest() { { encryption_generations; data .encryption; } | sort -n | tail -n 1; }

# The generation that this host writes with; empty before its first API server.
encryption_in_use() { encryption_generations | sed -n 1p; }

# Those whose keys its API server has, the one that it writes with first.
encryption_generations() {
  jq -r '.resources[0].providers[0].secretbox.keys[].name | ltrimstr("key")' \
    "$OURS/encryption.json" 2>/dev/null || true
}
