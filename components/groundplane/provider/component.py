"""The plugin `groundplane`: what programs in TypeScript, Go or YAML get of this package."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pulumi
import pulumi.provider
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.server import ComponentInitError

from groundplane.clusters import kubeadm
from groundplane.errors import GroundplaneError
from groundplane.provider.inputs import KubeadmClusterInputs
from groundplane.spec.load import SECRETS, from_values
from groundplane.survey import sources

__all__ = ["KubeadmCluster", "main", "provider"]


class KubeadmCluster(kubeadm.KubeadmCluster):
    """A Kubernetes cluster on given hosts, made and kept by kubeadm."""

    # Once more, since Pulumi's analyzer takes descriptions from a class's own source only.
    endpoint: pulumi.Output[str]
    """The URL of the API."""
    kubeconfig: pulumi.Output[str]
    """An administrator's kubeconfig; a secret."""
    nodes: pulumi.Output[dict[str, str]]
    """Node name -> address."""
    identity: pulumi.Output[str]
    """What `groundplane restore` needs to rebuild the cluster from a snapshot; a secret."""

    def __init__(
        self, name: str, args: KubeadmClusterInputs, opts: pulumi.ResourceOptions | None = None
    ):
        given = whole_numbers(dict(args))
        secrets = {key: pulumi.Output.secret(given.pop(key)) for key in SECRETS if key in given}
        stack = pulumi.get_stack().rpartition("/")[2]
        spec = from_values(name, stack, Path.cwd(), given, secrets)
        beside = pulumi.ResourceOptions(parent=opts.parent if opts else None)
        hosts = [source(name, spec, beside) for source in sources(spec)]
        super().__init__(name, spec, opts, hosts)


def whole_numbers(value: Any) -> Any:
    """The same with whole numbers where they became floating ones on the wire."""
    if isinstance(value, dict):
        return {key: whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Provider(ComponentProvider):
    """Shows an error of ours as it is: the SDK would add a traceback to it."""

    def construct(self, *args: Any, **given: Any) -> Any:
        try:
            return super().construct(*args, **given)
        except ComponentInitError as error:
            if not isinstance(error.inner, GroundplaneError):
                raise
            raise pulumi.InputPropertiesError(f"\n{error.inner}", []) from None


def provider() -> ComponentProvider:
    """The plugin's server; its schema comes from the annotations of inputs.py."""
    return _Provider([KubeadmCluster], "groundplane", version=version("groundplane"))


def main() -> None:
    """Serve it to the engine that started this process."""
    pulumi.provider.main(provider(), sys.argv[1:])
