"""What only shows when hosts, cluster and catalogue are seen together."""

from __future__ import annotations

from collections.abc import Sequence

from groundplane.catalogue import Catalogue
from groundplane.errors import Finding
from groundplane.spec.models import Cluster, Host


def check(hosts: Sequence[Host], cluster: Cluster, catalogue: Catalogue) -> list[Finding]:
    """All findings."""
    return []
