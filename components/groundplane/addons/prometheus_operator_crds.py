"""prometheus-operator-crds: the kinds by which all that runs says how it is watched."""

from __future__ import annotations

import pulumi

from groundplane.ground import Ground, manifests
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["PrometheusOperatorCrds", "PrometheusOperatorCrdsArgs"]


class PrometheusOperatorCrdsArgs(AddonArgs):
    """The kinds have nothing to be told."""


@addon(
    "prometheus-operator-crds",
    args=PrometheusOperatorCrdsArgs,
    namespace="",
    sources=["prometheus-operator-crds"],
    provides=[Need.MONITOR_CRDS],
    profile="standard",
)
class PrometheusOperatorCrds(pulumi.ComponentResource):
    """The kinds of the Prometheus operator (ServiceMonitor, PrometheusRule, ...). They come before
    all that is watched, the storage that Prometheus lies on among it; what reads them is an add-on
    of its own.

    Source: https://github.com/prometheus-operator/prometheus-operator/tree/v0.93.1/example
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: PrometheusOperatorCrdsArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:PrometheusOperatorCrds", name, None, opts)
        self.ready: pulumi.Resource = manifests(self, ground, "prometheus-operator-crds")
        """Once it is there monitors can be written."""
        self.register_outputs({})
