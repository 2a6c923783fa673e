"""Who may do what in a cluster."""

from __future__ import annotations

from rules.rule import MANDATORY, Found, Settings, View, rule

BINDINGS = (
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
)


@rule(
    MANDATORY,
    on=BINDINGS,
    remedy="Bind a role that names what is needed; an operator that needs everything is exempted, "
    "with the reason.",
)
def no_cluster_admin_bindings(binding: View, settings: Settings) -> Found:
    """Nobody is bound to cluster-admin.

    It reads every Secret and runs anything on any node; whoever takes over its holder has the
    cluster.
    """
    role = binding["roleRef"]
    if role["kind"].text == "ClusterRole" and role["name"].text == "cluster-admin":
        yield "roleRef is cluster-admin"
