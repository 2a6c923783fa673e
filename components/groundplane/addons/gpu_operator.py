"""gpu-operator: NVIDIA's GPUs for pods."""

from __future__ import annotations

from typing import Any, Literal

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["GpuOperator", "GpuOperatorArgs"]

NAME = "gpu-operator"


class GpuOperatorArgs(AddonArgs):
    """Where the driver comes from. In a virtual machine, a card that is passed through as a whole
    is as on bare metal; a part of one (vGPU) wants NVIDIA's licensed driver."""

    driver: bool = True
    """Whether it brings the driver. Otherwise the hosts have one."""
    driver_repository: v.Text | None = Field(default=None, examples=["registry.example.org/nvidia"])
    """Where the driver's image lies; NVIDIA's own unless given. That for vGPU is made by you."""
    driver_version: v.Text | None = Field(default=None, examples=["595.91.07"])
    """The driver's version; the one that the operator was tested with unless given."""
    kernel_module: Literal["auto", "open", "proprietary"] = "auto"
    """Which of NVIDIA's kernel modules it is."""
    license_secret: v.Name | None = Field(default=None, examples=["vgpu-license"])
    """For vGPU: a Secret in the namespace `gpu-operator` with `gridd.conf` and
    `client_configuration_token.tok`."""


@addon(
    NAME,
    args=GpuOperatorArgs,
    namespace=NAME,
    sources=[NAME],
    # It loads kernel modules, and changes how the hosts' containers are started.
    pod_security="privileged",
    needs=[Need.NODE_FEATURES],
    uses=[Need.MONITOR_CRDS],
)
class GpuOperator(pulumi.ComponentResource):
    """NVIDIA's GPUs for pods, as the resource `nvidia.com/gpu`: driver, container toolkit, device
    plugin, and measurements, on the nodes whose labels say that they have a card.

    Source: https://github.com/NVIDIA/gpu-operator/tree/v26.7.0/deployments/gpu-operator
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: GpuOperatorArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:GpuOperator", name, None, opts)
        space = namespace(self, ground)
        self.ready: pulumi.Resource = chart(self, ground, NAME, values(args, ground), after=[space])
        """Once it is there the operator begins with the nodes, which takes minutes for each."""
        self.register_outputs({})


def values(args: GpuOperatorArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    driver: dict[str, Any] = {"enabled": args.driver, "kernelModuleType": args.kernel_module}
    if args.driver_repository:
        driver["repository"] = args.driver_repository
    if args.driver_version:
        driver["version"] = args.driver_version
    if args.license_secret:
        driver["licensingConfig"] = {"secretName": args.license_secret}
    return {
        # An add-on of its own, with one owner.
        "nfd": {"enabled": False},
        "driver": driver,
        "dcgmExporter": {"serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)}},
    }
