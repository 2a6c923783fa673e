"""The API server that the scripts see: objects in a file on the host, behind a fake kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.host import Host


class Cluster:
    """What is in the cluster of a host's fake kubectl."""

    def __init__(self, host: Host) -> None:
        host.fake("kubectl")
        self.file = host.path("/run/cluster.json")
        self.file.write_text("{}")

    @property
    def objects(self) -> dict[str, dict[str, Any]]:
        """KIND/NAME -> object; namespaces are left out, as each name stands for one thing."""
        found: dict[str, dict[str, Any]] = json.loads(self.file.read_text())
        return found

    def add(self, kind: str, name: str, **fields: Any) -> None:
        """Put an object there; `metadata` is merged with its name."""
        objects = self.objects
        metadata = {"name": name, "resourceVersion": str(len(objects) + 1)}
        metadata |= fields.pop("metadata", {})
        objects[f"{kind.lower()}/{name}"] = {"kind": kind, "metadata": metadata, **fields}
        self.file.write_text(json.dumps(objects))

    def nodes(self, *names: str) -> None:
        for name in names:
            self.add("Node", name)

    def hold(self, slot: str, holder: str) -> None:
        self.add("ConfigMap", slot, data={"holder": holder, "since": "then"})

    @property
    def holders(self) -> dict[str, str]:
        """The gate's slots -> who holds them."""
        return {
            key.removeprefix("configmap/"): found["data"]["holder"]
            for key, found in self.objects.items()
            if key.startswith("configmap/") and "holder" in found["data"]
        }


def fake_etcdctl(host: Host, members: list[str], alarms: str = "", silent: bool = False) -> None:
    """An etcdctl for these members: NAME ADDRESS voter|learner healthy|unhealthy, or with the name
    - one that was added and never started. `member remove` only notes the call."""
    listed, healthy = [], []
    for number, line in enumerate(members, 1):
        name, address, kind, health = line.split()
        address = f"[{address}]" if ":" in address else address
        member: dict[str, Any] = {"ID": f"{number:x}", "peerURLs": [f"https://{address}:2380"]}
        if name != "-":
            member |= {"name": name, "clientURLs": [f"https://{address}:2379"]}
        if kind == "learner":
            member["isLearner"] = True
        listed.append(member)
        if health == "healthy":
            healthy.append(f"https://{address}:2379")
    answer = json.dumps({"members": listed})
    folder = Path("/run")
    host.write(str(folder / "members.json"), answer)
    host.write(str(folder / "healthy"), "".join(f"{url}\n" for url in healthy))
    host.write(str(folder / "alarms"), f"{alarms}\n" if alarms else "")
    host.fake(
        "etcdctl",
        f"""
        {"exit 1" if silent else ""}
        case "$*" in
          *"member list"*) cat /run/members.json ;;
          *"alarm list"*) cat /run/alarms ;;
          *"endpoint health"*) grep -qxF "$2" /run/healthy ;;
          *"member remove "*) echo "etcdctl remove ${{@: -1}} at $2" >>"$CALLS" ;;
        esac""",
    )
