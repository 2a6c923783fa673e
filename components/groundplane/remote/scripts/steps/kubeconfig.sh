# shellcheck shell=bash
# kubeconfig: an administrator's access with an identity of its own. A new token makes a new user
# and takes the rights from the one before.
# Data: .context .endpoint .token .generation (which only the ledger keeps)

apply() {
  wait_until 120 "the API answers" api_answers
  local user config
  user=groundplane:admin:$(data .token)
  config=$(mktemp "$RUN/kubeconfig.XXXXXX")
  administrator "$user" "$(data .context)" >"$config"
  grant "$user"
  kubectl --kubeconfig "$config" config view --raw -o jsonpath='{.users[0].user.client-certificate-data}' |
    base64 -d | write_atomically "$STATE/kubeconfig.crt" 0600
  fact cert "$STATE/kubeconfig.crt" \
    "$(date -d "$(openssl x509 -noout -enddate -in "$STATE/kubeconfig.crt" | cut -d= -f2)" +%s)"
  install -m 0600 /dev/null "$RESULT"
  cat "$config" >"$RESULT"
  rm -f "$config"
}

grant() {
  kube_apply <<JSON
{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
 "metadata": {"name": "groundplane:admin"},
 "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
 "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "$1"}]}
JSON
}
