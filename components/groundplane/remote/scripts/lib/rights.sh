# shellcheck shell=bash
# What the nodes themselves may do for the gate and the plain network, and the gate's place.
rights() {
  kube_apply <<JSON
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "$GATE_NAMESPACE"}},
  {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
   "metadata": {"name": "groundplane:node"},
   "rules": [
     {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "delete"]},
     {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get"]}]},
  {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
   "metadata": {"name": "groundplane:node"},
   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "groundplane:node"},
   "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]},
  {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
   "metadata": {"name": "groundplane:gate", "namespace": "$GATE_NAMESPACE"},
   "rules": [{"apiGroups": [""], "resources": ["configmaps"],
              "verbs": ["get", "list", "create", "update", "delete"]}]},
  {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
   "metadata": {"name": "groundplane:gate", "namespace": "$GATE_NAMESPACE"},
   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "groundplane:gate"},
   "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]}
]}
JSON
}
