"""plain-network, with real routes, rules and files in a network of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.host import Done, Host
from support.specs import on_the_wire, spec

# A cable to nowhere, and a kubectl that says each line of /run/events once and then goes on
# watching, as the real one does.
NETWORK = """
ip link set lo up
ip link add cable type veth peer name end
ip link set end up
ip address add 192.0.2.101/24 dev cable
ip address add fd00:1::101/64 dev cable nodad
ip link set cable up
plain=$1
shift
export KUBECONFIG=/run/kubelet.conf
"""
KUBECTL = """
case "$*" in
  *--watch*) cat /run/events; sleep 60 ;;
  *) cat /run/ranges ;;
esac
"""
ONE = ["10.244.0.0/16"]
TWO = ["10.244.0.0/16", "fd00:244::/56"]


@pytest.fixture
def segment(host: Host) -> Host:
    host.fake("kubectl", KUBECTL)
    host.write("/run/ranges", "")
    host.write("/run/kubelet.conf", "")
    return host


def play(
    host: Host, ranges: list[str], events: list[str], before: str = "", after: str = ""
) -> Done:
    """Runs it as the unit does until all events are dealt with, and then looks."""
    # The route of the last one says that all before it were dealt with.
    events = [*events, "ADDED|last|198.18.99.0/24|192.0.2.199"]
    host.write("/run/events", "".join(f"{event}\n" for event in events))
    script = f"""
      {before}
      start() {{
        "$plain" w1 {" ".join(ranges)} 2>/run/complaints & unit=$!
        until [ -n "$(ip route show 198.18.99.0/24)" ]; do
          kill -0 "$unit" || {{ cat /run/complaints >&2; exit 1; }}
          sleep 0.05
        done
        kill "$unit"
        ip route delete 198.18.99.0/24
      }}
      start
      {after}"""
    plain = str(host.scripts / "plain-network")
    done = host.execute("bash", "-euc", NETWORK + script, "bash", plain)
    assert done.status == 0, done.err
    return done


def routes(family: str = "-4") -> str:
    return f"ip -j {family} route show proto 245 | jq -r '.[] | \"\\(.dst) \\(.gateway)\"'"


NODES = [
    "ADDED|w1|10.244.1.0/24|192.0.2.101",
    "ADDED|w2|10.244.2.0/24|192.0.2.102",
    "ADDED|cp1|10.244.0.0/24|192.0.2.11",
]


def test_a_route_to_every_other_nodes_pods(segment: Host) -> None:
    done = play(segment, ONE, NODES, after=routes())
    assert done.out.splitlines() == ["10.244.0.0/24 192.0.2.11", "10.244.2.0/24 192.0.2.102"]


def test_two_families(segment: Host) -> None:
    both = ["ADDED|w2|10.244.2.0/24 fd00:244::200/120|192.0.2.102 fd00:1::102"]
    done = play(segment, TWO, both, after=f"{routes()}; {routes('-6')}")
    assert done.out.splitlines() == ["10.244.2.0/24 192.0.2.102", "fd00:244::200/120 fd00:1::102"]


def test_a_node_that_goes_and_one_that_comes_back_elsewhere(segment: Host) -> None:
    events = [
        *NODES,
        "DELETED|w2|10.244.2.0/24|192.0.2.102",
        "MODIFIED|cp1|10.244.0.0/24|192.0.2.12",
    ]
    assert play(segment, ONE, events, after=routes()).out == "10.244.0.0/24 192.0.2.12\n"


def test_a_node_without_a_range_yet(segment: Host) -> None:
    assert play(segment, ONE, ["ADDED|w2||192.0.2.102", "ADDED|w1||"], after=routes()).out == ""


def test_it_waits_for_the_nodes_credentials(segment: Host) -> None:
    """It is started before the node joins."""
    segment.path("/run/kubelet.conf").unlink()
    segment.fake("kubectl", f'[ -e "$KUBECONFIG" ] || touch /run/too-early{KUBECTL}')
    late = "{ sleep 0.2; touch /run/kubelet.conf; } &"
    assert play(segment, ONE, NODES, before=late, after=routes()).out
    assert not segment.there("/run/too-early")


def test_a_node_on_another_segment_is_named(segment: Host) -> None:
    play(segment, ONE, ["ADDED|w2|10.244.2.0/24|198.51.100.7", *NODES])
    assert "no route to 10.244.2.0/24 by 198.51.100.7" in segment.read("/run/complaints")


def test_what_went_while_nobody_watched(segment: Host) -> None:
    segment.write("/run/ranges", "10.244.0.0/24 10.244.1.0/24 10.244.2.0/24")
    stale = "ip route add 10.244.9.0/24 via 192.0.2.109 proto 245"
    theirs = "ip route add 10.9.0.0/24 via 192.0.2.109"
    look = f"{routes()}; ip route show 10.9.0.0/24"
    done = play(segment, ONE, NODES, before=f"{stale}; {theirs}", after=look)
    assert "10.244.9.0/24" not in done.out
    assert "10.9.0.0/24" in done.out


def test_silence_of_the_api_server_removes_nothing(segment: Host) -> None:
    before = "ip route add 10.244.9.0/24 via 192.0.2.109 proto 245"
    assert play(segment, ONE, [], before=before, after=routes()).out.startswith("10.244.9.0/24")


def rules(done: Done) -> list[list[Any]]:
    """(family, what is compared, how, with what) of each rule, without counters and handles."""
    return [
        [match["left"]["payload"]["protocol"], match["left"]["payload"]["field"], match["op"],
         f"{match['right']['prefix']['addr']}/{match['right']['prefix']['len']}"]
        for item in json.loads(done.out)["nftables"] if "rule" in item
        for expression in item["rule"]["expr"] if (match := expression.get("match"))
    ]  # fmt: skip


LIST = "nft -j list table inet groundplane"


@pytest.mark.parametrize("ranges", [ONE, TWO], ids=["one family", "two families"])
def test_pods_leave_under_their_nodes_address(segment: Host, ranges: list[str]) -> None:
    expected = []
    for range_ in ranges:
        family = "ip6" if ":" in range_ else "ip"
        expected += [[family, "saddr", "==", range_], [family, "daddr", "!=", range_]]
    assert rules(play(segment, ranges, [], after=LIST)) == expected


def test_a_restart_leaves_one_set_of_rules(segment: Host) -> None:
    assert len(rules(play(segment, ONE, NODES, after=f"start; {LIST}"))) == 2


def test_the_runtimes_configuration(segment: Host) -> None:
    play(segment, TWO, ["ADDED|w1|10.244.1.0/24 fd00:244::100/120|192.0.2.101"])
    written = json.loads(segment.read("/etc/cni/net.d/10-groundplane.conflist"))
    ipam = written["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244::100/120"}]]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    folder = segment.path("/etc/cni/net.d")
    # The runtime reads whatever ends in .conflist, .conf or .json.
    assert [p.name for p in folder.iterdir() if p.suffix in (".conflist", ".conf", ".json")] == [
        "10-groundplane.conflist"
    ]


def test_it_is_written_only_when_it_changes(segment: Host) -> None:
    path: Path = segment.path("/etc/cni/net.d/10-groundplane.conflist")
    play(segment, ONE, NODES)
    first = path.stat()
    play(segment, ONE, NODES * 2)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_removal_leaves_only_what_is_not_ours(segment: Host) -> None:
    look = (
        f'"$plain" --remove; {routes()}; {routes("-6")}; nft list tables; ip route show 10.9.0.0/24'
    )
    before = "ip route add 10.9.0.0/24 via 192.0.2.109; nft add table inet theirs"
    done = play(segment, TWO, NODES, before=before, after=look)
    assert [line.strip() for line in done.out.splitlines()] == [
        "table inet theirs",
        "10.9.0.0/24 via 192.0.2.109 dev cable",
    ]
    assert not segment.there("/etc/cni/net.d/10-groundplane.conflist")


CABLE = NETWORK.partition("plain=")[0]
LEFT = """
ip link add vxlan.calico type veth peer name other
ip link set other up; ip link set vxlan.calico up
ip route add 10.244.9.0/26 dev vxlan.calico proto 80
ip route add blackhole 10.244.7.0/26 proto 80
ip route add 10.244.8.0/26 via 192.0.2.109 proto bird
nft add table ip calico
nft add table inet theirs
"""
LOOK = """
network_reset >/dev/null
ip route show proto 80; ip route show proto bird; ip -o link | sed -n /calico/p; nft list tables
"""


def test_what_calico_left_goes_with_the_node(host: Host) -> None:
    host.fake("systemctl")
    gone = ["/etc/cni/net.d/10-calico.conflist", "/opt/cni/bin/calico", "/opt/cni/bin/portmap"]
    for path in [*gone, "/opt/cni/bin/ptp"]:
        host.write(path, "")
    done = host.bash(CABLE + LEFT + LOOK, on_the_wire(spec(), "node", "w1"))
    assert (done.out.split(), done.err) == (["table", "inet", "theirs"], "")
    assert not any(map(host.there, gone))
    assert host.there("/opt/cni/bin/ptp")


def test_without_calico_nothing_is_taken_for_its(host: Host) -> None:
    host.fake("systemctl")
    host.write("/opt/cni/bin/portmap", "")
    theirs = "ip route add 10.9.0.0/24 via 192.0.2.109 proto bird"
    done = host.bash(f"{CABLE}{theirs}{LOOK}", on_the_wire(spec(), "node", "w1"))
    assert "10.9.0.0/24" in done.out
    assert host.there("/opt/cni/bin/portmap")
