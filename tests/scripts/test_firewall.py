"""The firewall: rules on trial, what brings the former ones back, and what packets meet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.host import Done, Host
from support.specs import hosts, on_the_wire, spec

from groundplane.spec import Allow, Firewall

# What is armed is written down, and comes at the call of `time_is_up`. A process by the name of
# sshd stands for a connection.
TIMER = """
systemd-run() {
  while [ "$1" != -- ]; do shift; done
  shift
  armed=("$@")
}
time_is_up() { "${armed[@]}"; }
cp /bin/sleep /run/sshd
connect() { /run/sshd 60 & CALLER=$!; }
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
table() { nft list table inet groundplane-firewall 2>/dev/null || echo none; }
drops() { table | grep -c 'policy drop' || true; }
commit() { ledger_commit firewall; : >"$FACTS"; }
"""
FIREWALL = "/etc/groundplane/firewall.nft"
UNIT = "groundplane-nftables"


@pytest.fixture
def host(host: Host) -> Host:
    host.fake("systemctl")
    return host


def data(name: str = "cp1", workers: int = 2, **given: Any) -> dict[str, Any]:
    return on_the_wire(spec(hosts(3, workers), firewall=Firewall(**given)), "firewall", name)


def run(host: Host, script: str, given: dict[str, Any] | None = None) -> Done:
    return host.bash(TIMER + script, given or data(), step="firewall")


def other(host: Host, given: dict[str, Any]) -> str:
    """Of a script: from here on the step is given this."""
    path = f"/run/data-{abs(hash(json.dumps(given)))}.json"
    host.write(path, json.dumps(given))
    return f"cp {path} $DATA; read_data"


KEPT = "apply; commit; connect; FACTS=/dev/null firewall_confirm"
QUIETLY = f"{{ {KEPT}; }} >/dev/null"


def test_rules_that_a_new_connection_confirms_stay(host: Host) -> None:
    done = run(host, f"{KEPT}; time_is_up 2>/dev/null || true; drops; nft -c -f {FIREWALL}")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "changed firewall loaded, on trial for 90 s",
        f"changed {FIREWALL}",
        f"changed /etc/systemd/system/{UNIT}.service",
        f"changed {UNIT} started",
        "1",
    ]
    assert f"systemctl enable {UNIT}" in host.calls
    # Nothing is left that could bring the former ones back.
    assert "systemctl stop groundplane-firewall-back.timer" in host.calls


def test_rules_that_nobody_confirms_are_taken_back(host: Host) -> None:
    done = run(host, "apply; commit; drops; time_is_up; table; firewall_confirm")
    assert done.status == 1
    assert done.out.splitlines() == ["changed firewall loaded, on trial for 90 s", "1", "none"]
    assert "the former ones are in force: no new SSH connection came within 90 s" in done.err
    assert "Remedy: do cluster.firewall.ssh and the networks between let in" in done.err
    # The next start of the machine must not bring them either.
    assert not host.there(FIREWALL)
    assert f"systemctl enable {UNIT}" not in host.calls


def test_the_rules_before_are_back_as_they_were(host: Host) -> None:
    """With a node that is about to leave among them, whose time runs out."""
    script = f"""{QUIETLY}
    {other(host, data(workers=1))}; apply >/dev/null; commit
    before=$(firewall_digest)
    {other(host, data(workers=1, ssh=["198.51.100.0/24"]))}; apply >/dev/null; commit
    [ "$before" != "$(firewall_digest)" ]
    time_is_up
    [ "$before" = "$(firewall_digest)" ]
    table | grep -o "192.0.2.102 timeout 2h"
    """
    done = run(host, script)
    assert (done.status, done.out, done.err) == (0, "192.0.2.102 timeout 2h\n", "")


def test_where_they_cannot_be_loaded_there_are_rather_none(host: Host) -> None:
    done = run(
        host, "apply; commit; echo nonsense >$FIREWALL_FORMER; time_is_up 2>/dev/null; table"
    )
    assert done.out.splitlines() == ["changed firewall loaded, on trial for 90 s", "none"]


def test_a_connection_that_stood_before_proves_nothing(host: Host) -> None:
    done = run(host, "connect; sleep 0.05; apply; commit; firewall_confirm")
    assert done.status == 1
    assert "this connection is older than the firewall's new rules" in done.err
    assert not host.there(FIREWALL)


def test_without_sshd_among_the_parents_nothing_is_proved(host: Host) -> None:
    done = run(host, "apply; commit; CALLER=$$ firewall_confirm")
    assert done.status == 1
    assert "no sshd is among the parents of this call" in done.err


def test_without_a_promise_nothing_is_loaded(host: Host) -> None:
    done = run(host, "systemd-run() { false; }; trap table EXIT; apply")
    assert done.status == 1
    assert "systemd does not promise to bring the former rules back" in done.err
    assert done.out.splitlines() == ["none"]


def test_the_same_again_changes_nothing(host: Host) -> None:
    done = run(host, f"{QUIETLY}; table >/run/a; apply; commit; table | cmp - /run/a")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_another_node_needs_no_trial(host: Host) -> None:
    """No rule is new, so nobody can be shut out by it; and no connection is disturbed."""
    script = f"{QUIETLY}; {other(host, data(workers=3))}; armed=(); apply; commit"
    done = run(host, f'{script}; echo "${{#armed[@]}}"; table | grep -c 192.0.2.103')
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [f"changed {FIREWALL}", "changed firewall loaded", "0", "1"]
    assert [call for call in host.calls if "restart" in call or "reload" in call] == []


def test_a_node_that_left_the_list_may_still_leave(host: Host) -> None:
    """Its own delete comes later, and speaks to the others."""
    script = f"{QUIETLY}; {other(host, data(workers=1))}; apply >/dev/null; commit; table"
    done = run(host, script)
    assert (done.status, done.err) == (0, "")
    assert "192.0.2.102 timeout 2h" in done.out
    assert "192.0.2.101 timeout" not in done.out
    # And is not brought back by the next start of the machine.
    assert "192.0.2.102" not in host.read(FIREWALL)


def test_what_runs_out_is_no_drift(host: Host) -> None:
    script = f"{QUIETLY}; {other(host, data(workers=1))}; apply >/dev/null; commit"
    script += "; nft 'flush set inet groundplane-firewall nodes4'"
    script += (
        "; nft \"add element inet groundplane-firewall nodes4 { $(data '.nodes[]' | paste -sd,) }\""
    )
    done = run(host, f"{script}; apply")
    assert (done.status, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize(
    "spoil",
    [
        "nft delete table inet groundplane-firewall",
        "nft flush chain inet groundplane-firewall input",
        "nft insert rule inet groundplane-firewall input accept",
        "nft 'delete element inet groundplane-firewall nodes4 { 192.0.2.102 }'",
    ],
)
def test_a_table_that_was_changed_is_loaded_anew_without_a_trial(host: Host, spoil: str) -> None:
    script = f"{QUIETLY}; firewall_digest >/run/a; {spoil}; armed=(); apply; commit"
    done = run(host, f'{script}; echo "${{#armed[@]}}"; firewall_digest | cmp - /run/a')
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["changed firewall loaded", "0"]


def test_a_second_try_does_not_stand_on_the_first(host: Host) -> None:
    """What comes back is what was confirmed, and not what was tried before it."""
    script = f"{QUIETLY}; table >/run/a; {other(host, data(ssh=['198.51.100.0/24']))}"
    script += "; apply; commit; apply; commit; time_is_up; table | cmp - /run/a"
    done = run(host, script)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["changed firewall loaded, on trial for 90 s"] * 2


def test_rules_that_nft_refuses_are_not_loaded(host: Host) -> None:
    bad = {**data(), "ssh": ["nonsense"]}
    done = run(host, "trap table EXIT; apply", bad)
    assert (done.status, done.out) == (1, "none\n")
    assert "nft refuses the firewall's rules" in done.err


def test_the_tables_of_others_stay(host: Host) -> None:
    theirs = "nft add table ip kube-proxy; nft add chain ip kube-proxy services"
    script = f"{theirs}; {QUIETLY}; apply; destroy >/dev/null"
    done = run(host, f"{script}; nft list tables; nft list chains ip")
    assert (done.status, done.err) == (0, "")
    assert "chain services" in done.out
    assert "groundplane" not in done.out
    assert not host.there(FIREWALL)
    # Or the next look would find that the table is gone.
    assert not host.there("/var/lib/groundplane/ledger/firewall.json")


LOOK = 'bash "$2/observe.sh" | grep ^drift || true'


def test_a_look_finds_what_was_changed(host: Host) -> None:
    """By the same digest as the step leaves, and not for a node that is about to leave."""
    script = f"{QUIETLY}; {other(host, data(workers=1))}; apply >/dev/null; commit; {LOOK}; echo -"
    script += f"; nft insert rule inet groundplane-firewall input accept; {LOOK}; echo -"
    script += f"; nft delete table inet groundplane-firewall; {LOOK}"
    done = run(host, script)
    unchanged, changed, gone = done.out.split("-\n")
    # Units are not looked at: there is no systemd here.
    assert unchanged == ""
    assert changed.startswith("drift\tfirewall\ttable inet groundplane-firewall\t")
    assert gone.endswith("\tabsent\n")


# ---- packets ---------------------------------------------------------------------------------

# A neighbour on a cable: a network of its own, with the addresses of a node, of a control plane,
# of a pod and of a stranger.
NEIGHBOUR = """
ip link set lo up
unshare -n sleep 60 & there=$!
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
ip link add eth0 type veth peer name eth0 netns $there
ip address add 192.0.2.11/24 dev eth0; ip address add fd00:1::11/64 dev eth0 nodad
ip link set eth0 up
from() { nsenter -t $there -n "$@"; }
for address in 192.0.2.102/24 192.0.2.12/24 192.0.2.250/24 fd00:1::102/64 fd00:1::250/64; do
  from ip address add $address dev eth0 $([[ $address != *:* ]] || echo nodad)
done
from ip link set eth0 up
from ip address add 10.244.9.9/32 dev eth0
ip route add 10.244.9.9/32 dev eth0
# As kube-proxy sends a NodePort on.
nft -f - <<'N'
table inet proxy {
  chain services {
    type nat hook prerouting priority dstnat
    tcp dport 30081 redirect to :8080
  }
}
N
cat >/run/listen.py <<'P'
import socket, sys, time
held = []
for port in map(int, sys.argv[1:]):
    for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        s = socket.socket(family)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((any, port))
        s.listen()
        held.append(s)
print("listening", flush=True)
time.sleep(60)
P
cat >/run/try.py <<'P'
import socket, sys
from concurrent.futures import ThreadPoolExecutor
source, target, *ports = sys.argv[1:]
def answers(port):
    try:
        socket.create_connection((target, int(port)), 1.5, (source, 0)).close()
        return port
    except OSError:
        return ""
with ThreadPoolExecutor(len(ports)) as pool:
    print(source, *filter(None, pool.map(answers, ports)))
P
"""
PORTS = "22 111 2379 6443 8080 8443 9100 10250 7946 6800 30080 30081"


def test_who_reaches_what(host: Host) -> None:
    """Over both families, from a node, a control plane, a pod and a stranger."""
    made = spec(
        hosts(3, 2, second_node_address="fd00:1::"),
        pod_cidrs=["10.244.0.0/16", "fd00:244::/56"],
        service_cidrs=["10.96.0.0/16", "fd00:96::/112"],
        firewall=Firewall(
            allow=[Allow(port="9100", sources=["192.0.2.250/32", "fd00:1::250/128"])]
        ),
    )
    four, six = "192.0.2.11", "fd00:1::11"
    tries = "\n".join(
        f"from python3 /run/try.py {source} {six if ':' in source else four} {PORTS} &"
        for source in ("192.0.2.102", "192.0.2.12", "10.244.9.9", "192.0.2.250",
                       "fd00:1::102", "fd00:1::250")
    )  # fmt: skip
    script = f"""{NEIGHBOUR}
    exec 3< <(python3 /run/listen.py {PORTS})
    read -r _ <&3
    {QUIETLY}
    {tries}
    wait $(jobs -p | tail -n 6)
    """
    done = run(host, script, on_the_wire(made, "firewall", "cp1"))
    assert done.status == 0, done.err
    assert sorted(done.out.splitlines()) == sorted(
        [
            "192.0.2.102 22 6443 8443 10250 7946 6800 30080 30081",
            "192.0.2.12 22 2379 6443 8443 10250 7946 6800 30080 30081",
            f"10.244.9.9 {PORTS}",
            "192.0.2.250 22 6443 8443 9100",
            "fd00:1::102 22 6443 8443 10250 7946 6800 30080 30081",
            "fd00:1::250 22 6443 8443 9100",
        ]
    )
