# shellcheck shell=bash
# Where snapshots are copied, off this host: a directory by SSH, or a bucket that speaks S3. Three
# verbs for each: put, names, remove. Nothing secret stands on a command line.
# From $BACKUP_SECRETS: .target.ssh {address user port key host_key path}
#                       .target.s3 {endpoint bucket prefix region access_key secret_key}
#                       .proxy, where S3 is asked through one

target_kind() { backup_setting '.target // {} | keys[0]'; }

# target_place: for people.
target_place() {
  backup_setting '.target | if .ssh then "ssh://\(.ssh.user)@\(.ssh.address):\(.ssh.port)\(.ssh.path)"
                  else "s3://\(.s3.bucket)/\(.s3.prefix // "")" end'
}

# target_put FILE NAME SHA256: whole under its name, or not at all.
target_put() { "target_$(target_kind)_put" "$@"; }
target_names() { "target_$(target_kind)_names"; }
target_remove() { "target_$(target_kind)_remove" "$@"; }

target_prune() {
  local keep name
  keep=$(cat "$BACKUP_KEEP")
  # All names first: the list must not change while it is read.
  for name in $(target_names | snapshot_surplus "$(snapshot_cluster)" "$keep"); do
    target_remove "$name"
    changed "$(target_place): $name removed"
  done
}

# ---- a directory by SSH ----------------------------------------------------------------------

# ssh_settings: the folder with what ssh is told, made once; `ssh_forget` takes it away.
ssh_settings() {
  local folder=$RUN/backup-ssh
  [ ! -e "$folder/config" ] || { echo "$folder"; return; }
  (umask 077 && mkdir -p "$folder" && backup_setting .target.ssh.key >"$folder/key")
  backup_setting '"target " + .target.ssh.host_key' >"$folder/known_hosts"
  cat >"$folder/config" <<CONFIG
Host target
  HostName $(backup_setting .target.ssh.address)
  HostKeyAlias target
  Port $(backup_setting .target.ssh.port)
  User $(backup_setting .target.ssh.user)
  IdentityFile $folder/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile $folder/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  ConnectTimeout 10
  ServerAliveInterval 5
  ServerAliveCountMax 3
  LogLevel ERROR
CONFIG
  echo "$folder"
}

ssh_forget() { rm -rf "$RUN/backup-ssh"; }

# target_sftp <commands: they work in accounts that are given nothing else, too.
target_sftp() {
  local folder
  folder=$(ssh_settings)
  timeout 1800 sftp -q -F "$folder/config" -b - target 2>"$folder/log" ||
    die "$(target_place): $(grep -v '^$' "$folder/log" | tail -n 1)" \
      "does the directory exist, may the key write there, is the recorded host key still the right one?"
}

ssh_path() { backup_setting ".target.ssh.path | rtrimstr(\"/\")"; }

sftp_word() { jq -nr --arg word "$1" '$word | @json'; }

target_ssh_put() {
  local file=$1 name=$2 sha256=$3 path part there size
  path=$(ssh_path) part=$path/.$2.part
  target_sftp >/dev/null <<SFTP
-rm $(sftp_word "$part")
put -f $(sftp_word "$file") $(sftp_word "$part")
SFTP
  size=$(target_sftp <<<"ls -ln $(sftp_word "$part")" | awk '$1 ~ /^-/ { print $5 }')
  [ "$size" = "$(stat -c %s "$file")" ] ||
    die "$(target_place): $name arrived with ${size:-0} bytes of $(stat -c %s "$file")" "is the disk there full?"
  # An account that may not run commands says something else than a digest; the size must do then.
  there=$(timeout 600 ssh -n -F "$(ssh_settings)/config" target \
    "sha256sum < $(printf %q "$part")" 2>/dev/null | cut -c1-64 || true)
  if [[ $there =~ ^[0-9a-f]{64}$ ]] && [ "$there" != "$sha256" ]; then
    target_sftp >/dev/null <<<"-rm $(sftp_word "$part")"
    die "$(target_place): $name arrived with another content" "look at the disk there, and at the network"
  fi
  target_sftp >/dev/null <<<"rename $(sftp_word "$part") $(sftp_word "$path/$name")"
}

target_ssh_names() {
  target_sftp <<SFTP
cd $(sftp_word "$(ssh_path)")
ls -1
SFTP
}

target_ssh_remove() { target_sftp >/dev/null <<<"rm $(sftp_word "$(ssh_path)/$1")"; }

# ---- S3 --------------------------------------------------------------------------------------
# Signed here and not by `curl --aws-sigv4`: before 7.84 (Ubuntu 22.04, RHEL 9) that cannot send a
# file to S3. By bash and sha256sum, since openssl takes an HMAC's key on its command line.

readonly SHA256_OF_NOTHING=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

unhex() { sed 's/../\\x&/g' | { read -r escaped || true; printf %b "$escaped"; }; }
hex() { od -An -v -tx1 | tr -d ' \n'; }

# hmac KEY_IN_HEX <message: HMAC-SHA256 in hex.
hmac() {
  local key=$1 inner="" outer="" i byte message
  message=$(hex)
  [ ${#key} -le 128 ] || key=$(unhex <<<"$key" | digest)
  for ((i = 0; i < 128; i += 2)); do
    byte=$((16#0${key:i:2}))
    printf -v inner '%s%02x' "$inner" $((byte ^ 0x36))
    printf -v outer '%s%02x' "$outer" $((byte ^ 0x5c))
  done
  inner=$(unhex <<<"$inner$message" | digest)
  unhex <<<"$outer$inner" | digest
}

# s3_signature SECRET TIME REGION <canonical request. TIME as 20130524T000000Z.
s3_signature() {
  local secret=$1 time=$2 region=$3 key word request
  request=$(digest)
  key=$(printf 'AWS4%s' "$secret" | hex)
  for word in "${time%T*}" "$region" s3 aws4_request; do key=$(printf %s "$word" | hmac "$key"); done
  printf 'AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s' "$time" "${time%T*}" "$region" "$request" |
    hmac "$key"
}

# uri TEXT: percent-encoded as S3 wants it; the slash stays in paths only.
uri() { jq -nr --arg text "$1" '$text | @uri | gsub("!"; "%21") | gsub("'"'"'"; "%27")
        | gsub("\\("; "%28") | gsub("\\)"; "%29") | gsub("\\*"; "%2A")'; }
uri_path() { local encoded; encoded=$(uri "$1"); echo "${encoded//%2F//}"; }

# s3 METHOD PATH QUERY [FILE SHA256]: prints the body. PATH and QUERY are encoded, QUERY in order.
s3() {
  local method=$1 path=$2 query=$3 file=${4:-} sha256=${5:-$SHA256_OF_NOTHING}
  local endpoint host time region signature status answer=$RUN/backup-s3
  endpoint=$(backup_setting '.target.s3.endpoint | rtrimstr("/")')
  region=$(backup_setting .target.s3.region)
  host=${endpoint#*://}
  # A path behind the host belongs to what is signed.
  [[ $host != */* ]] || path=/${host#*/}$path
  host=${host%%/*}
  time=$(date -u +%Y%m%dT%H%M%SZ)
  signature=$(printf '%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s' \
    "$method" "$path" "$query" "$host" "$sha256" "$time" 'host;x-amz-content-sha256;x-amz-date' "$sha256" |
    s3_signature "$(backup_setting .target.s3.secret_key)" "$time" "$region")
  status=$(curl --silent --show-error --config - -o "$answer" -w '%{http_code}' \
    --connect-timeout 10 --max-time 1800 --retry 3 --retry-connrefused 2>"$answer.errors" <<CURL
url = "${endpoint%%://*}://$host$path${query:+?$query}"
$(backup_setting '.proxy | select(.) | "proxy = \"\(.)\""')
$(case $method in
    HEAD) echo head ;;
    PUT) echo "upload-file = \"$file\"" ;;
    *) echo "request = \"$method\"" ;;
  esac)
header = "x-amz-date: $time"
header = "x-amz-content-sha256: $sha256"
header = "Authorization: AWS4-HMAC-SHA256 Credential=$(backup_setting .target.s3.access_key)/${time%T*}/$region/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=$signature"
CURL
  ) || die "$(target_place): $(tail -n 1 "$answer.errors")" "can this host reach $endpoint?"
  case $status in
    2??) cat "$answer" ;;
    *) die "$(target_place): $method was answered with $status $(s3_field Code <"$answer") $(s3_field Message <"$answer")" \
      "is the bucket there, may the access key write to it, is this host's clock right?" ;;
  esac
}

# s3_field NAME <xml: the content of the first element of that name; empty when there is none.
s3_field() { sed -n "s|.*<$1>\\([^<]*\\)</$1>.*|\\1|p" 2>/dev/null | head -n 1; }

s3_key() { uri_path "/$(backup_setting .target.s3.bucket)/$(backup_setting .target.s3.prefix)$1"; }

target_s3_put() {
  local file=$1 name=$2 sha256=$3 there
  [ "$(stat -c %s "$file")" -le $((5 * 1024 * 1024 * 1024)) ] ||
    die "$name is larger than the 5 GiB that S3 takes in one piece" "defragment etcd, or copy to an ssh target"
  # S3 checks the digest that was signed, and shows the object only when all of it came.
  s3 PUT "$(s3_key "$name")" "" "$file" "$sha256" >/dev/null
  there=$(s3 HEAD "$(s3_key "$name")" "" | tr -d '\r' | awk -F': *' 'tolower($1) == "content-length" { print $2 }')
  [ "$there" = "$(stat -c %s "$file")" ] ||
    die "$(target_place): $name arrived with ${there:-0} bytes of $(stat -c %s "$file")" "look at the object store"
}

# A thousand a page; the next page begins behind the last key.
target_s3_names() {
  local prefix page keys after=""
  prefix=$(backup_setting .target.s3.prefix)
  while :; do
    page=$(s3 GET "$(uri_path "/$(backup_setting .target.s3.bucket)")" \
      "delimiter=%2F&list-type=2&prefix=$(uri "$prefix")${after:+&start-after=$(uri "$after")}")
    keys=$(grep -o '<Key>[^<]*' <<<"$page" | cut -c6- || true)
    grep -oE "$SNAPSHOT_NAME\$" <<<"$keys" || true
    after=$(tail -n 1 <<<"$keys")
    [ "$(s3_field IsTruncated <<<"$page")" = true ] || break
  done
}

target_s3_remove() { s3 DELETE "$(s3_key "$1")" "" >/dev/null; }
