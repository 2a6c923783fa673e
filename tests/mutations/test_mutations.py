"""The tests would notice: each of these spoils one line of the scripts, and a test turns red.

Without them a test that asserts nothing would look like one that holds something up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from groundplane.remote.bundle import SCRIPTS

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Mutation:
    """In `file`, `was` becomes `now`; `test` (below tests/scripts) must fail."""

    file: str
    was: str
    now: str
    test: str


MUTATIONS = {
    "no gate before a disturbance": Mutation(
        "steps/node.sh",
        "  gate_enter disturb\n  write_atomically",
        "  write_atomically",
        "test_node.py::test_every_disturbance_stands_behind_the_gate",
    ),
    "kube-proxy is restarted whenever the step runs": Mutation(
        "steps/nodes.sh",
        '!= "$wanted" ] || return 0',
        '!= "$wanted" ] || true',
        "test_nodes.py::test_kube_proxy_is_restarted_once_for_new_settings",
    ),
    "a failure inside of a substitution is passed over": Mutation(
        "step",
        "shopt -s inherit_errexit",
        "shopt -u inherit_errexit",
        "test_run.py::test_what_fails_half_way_inside_of_a_substitution_ends_the_step",
    ),
    "add-ons are not asked": Mutation(
        "lib/gate.sh",
        "until reason=$(gate_asks); do",
        "until true; do",
        "test_gate.py::test_an_add_on_is_asked",
    ),
    "a node that is disturbed already is asked about": Mutation(
        "lib/gate.sh",
        'if [ -z "$disturbed" ] && node_is_ready; then',
        "if node_is_ready; then",
        "test_gate.py::test_who_is_disturbed_already_may_go_on",
    ),
    "no gate before leaving": Mutation(
        "lib/leave.sh",
        "  gate_enter leave\n",
        "",
        "test_node.py::test_a_member_leaves_through_the_gate",
    ),
    "a copy of a guest that broke off counts": Mutation(
        "steps/snapshot.sh",
        "  grep -q '^Job type: *Completed' \"$said\" ||\n",
        "  true ||\n",
        "test_snapshot.py::test_a_copy_that_breaks_off_is_none",
    ),
    "no gate before a guest restarts": Mutation(
        "lib/leave.sh",
        "  gate_enter disturb\n",
        "",
        "test_release.py::test_one_that_is_to_restart_is_drained_behind_the_gate",
    ),
    "a guest's private key stays in its seed": Mutation(
        "steps/machine.sh",
        "  dd if=/dev/zero",
        "  : dd if=/dev/zero",
        "test_machine.py::test_a_seed_that_is_held_fast_is_wiped_all_the_same",
    ),
    "whoever answers at a guest's address is the guest": Mutation(
        "steps/machine.sh",
        '[ "$(shown_key "$address")" = "$1" ] ||',
        "true ||",
        "test_machine.py::test_another_machine_at_its_address_is_refused",
    ),
    "another definition is no reason to restart": Mutation(
        "steps/machine.sh",
        "then stop_domain; fi",
        "then :; fi",
        "test_machine.py::test_another_size_restarts_it_and_keeps_its_disk",
    ),
    "an image that was written to is taken": Mutation(
        "steps/pool.sh",
        '! has_digest "$path" "$2"',
        "false",
        "test_machine.py::test_an_image_is_fetched_once_and_never_changed",
    ),
    "the gate is given back before the node is healthy": Mutation(
        "steps/node.sh",
        "  wait_healthy\n  settle\n  node_uncordon",
        "  gate_leave\n  wait_healthy\n  settle\n  node_uncordon",
        "test_node.py::test_every_disturbance_stands_behind_the_gate",
    ),
    "a quorum is half": Mutation(
        "lib/gate.sh",
        "int(after / 2) + 1",
        "int(after / 2)",
        "test_gate.py::test_quorum_against_its_definition",
    ),
    "who leaves still counts": Mutation(
        "lib/gate.sh",
        '(action == "leave") ? voters - 1 : voters',
        "voters",
        "test_gate.py::test_quorum_against_its_definition",
    ),
    "a learner is no reason": Mutation(
        "lib/gate.sh",
        'if (learner != "") {',
        "if (0) {",
        "test_gate.py::test_quorum",
    ),
    "a turn is taken over without a look at its version": Mutation(
        "lib/gate.sh",
        'slot "$slot" "$version"',
        'slot "$slot"',
        "test_gate.py::test_many_at_once",
    ),
    "who is refused keeps the turn": Mutation(
        "lib/gate.sh",
        "gate_refuse() {\n  gate_leave\n",
        "gate_refuse() {\n",
        "test_gate.py::test_who_is_refused_gives_the_turn_back",
    ),
    "a download is not compared": Mutation(
        "lib.sh",
        'has_digest "$part" "$sum"',
        "true",
        "test_fetch.py::test_another_file_than_the_catalogue_names",
    ),
    "a damaged download is resumed for ever": Mutation(
        "lib.sh",
        '[ "$try" -lt 2 ] || rm -f "$part"',
        "true",
        "test_fetch.py::test_a_server_that_recovers",
    ),
    "a file is written over": Mutation(
        "lib.sh",
        'mv -f "$temporary" "$path"',
        'cat "$temporary" >"$path"; rm "$temporary"',
        "test_files.py::test_a_file_is_replaced_and_not_written_over",
    ),
    "a file's name is there before its content": Mutation(
        "lib.sh",
        'sync "$temporary"',
        "true",
        "test_files.py::test_a_file_reaches_the_disk_before_its_name_does",
    ),
    "a mode is not compared": Mutation(
        "lib.sh",
        '[ "0$is" = "$mode" ] && cmp',
        "cmp",
        "test_files.py::test_a_wrong_mode_is_a_difference",
    ),
    "a step that failed is recorded": Mutation(
        "step",
        '"$VERB"\n',
        'trap \'ledger_commit "$STEP"\' EXIT\n"$VERB"\n',
        "test_run.py::test_a_step_that_fails_leaves_no_ledger",
    ),
    "a living member is removed": Mutation(
        "steps/membership.sh",
        '[ "$health" = unhealthy ] || continue\n',
        "",
        "test_nodes.py::test_a_member_that_stays",
    ),
    "a wanted member is removed": Mutation(
        "steps/membership.sh",
        '! wanted_member "$name" "$url" || continue\n',
        "",
        "test_nodes.py::test_a_member_that_stays",
    ),
    "the two sides disagree on the join token": Mutation(
        "steps/membership.sh",
        '"join:$1"',
        '"joins:$1"',
        "test_nodes.py::test_both_sides_work_out_the_same_join_token",
    ),
    "a new key for Secrets is written with at once": Mutation(
        "steps/secrets.sh",
        'encryption_configuration "$in_use" |',
        'encryption_configuration "$(data .encryption)" |',
        "test_keys.py::test_whatever_happens_everybody_reads_what_anybody_wrote",
    ),
    "a key for Secrets is forgotten": Mutation(
        "lib/keys.sh",
        "{ encryption_generations; data .encryption; }",
        "data .encryption",
        "test_keys.py::test_what_each_step_leaves",
    ),
    "another API server's word is taken": Mutation(
        "steps/secrets.sh",
        "--server=https://localhost:6443 ",
        "",
        "test_keys.py::test_it_is_this_hosts_own_api_server_that_is_asked",
    ),
    "a cut off wait is not taken up again": Mutation(
        "steps/secrets.sh",
        '    : >"$reloading"\n',
        "",
        "test_keys.py::test_a_new_key_is_waited_for_until_the_api_server_has_it",
    ),
    "nothing brings the former rules of the firewall back": Mutation(
        "lib/firewall.sh",
        '/bin/sh -c "$FIREWALL_BACK" ||',
        "/bin/sh -c true ||",
        "test_firewall.py::test_rules_that_nobody_confirms_are_taken_back",
    ),
    "the firewall's rules are in force before anything can take them back": Mutation(
        "lib/firewall.sh",
        'cp "$1" "$FIREWALL_TRIAL"',
        'cp "$1" "$FIREWALL_TRIAL"; firewall_load "$1"',
        "test_firewall.py::test_without_a_promise_nothing_is_loaded",
    ),
    "any connection confirms the firewall's rules": Mutation(
        "lib/firewall.sh",
        '[ "$began" -ge "$(cat "$FIREWALL_BEGAN")" ] ||',
        "true ||",
        "test_firewall.py::test_a_connection_that_stood_before_proves_nothing",
    ),
    "rules that were tried before count as confirmed": Mutation(
        "lib/firewall.sh",
        "  firewall_back\n  firewall_table",
        "  firewall_table",
        "test_firewall.py::test_a_second_try_does_not_stand_on_the_first",
    ),
    "a node that leaves is shut out at once": Mutation(
        "lib/firewall.sh",
        '{ cat "$1"; firewall_leaving; }',
        '{ cat "$1"; }',
        "test_firewall.py::test_a_node_that_left_the_list_may_still_leave",
    ),
    "the firewall lets everything in": Mutation(
        "lib/firewall.sh",
        "priority filter; policy drop;",
        "priority filter; policy accept;",
        "test_firewall.py::test_who_reaches_what",
    ),
    "NodePorts are open to everybody": Mutation(
        "lib/firewall.sh",
        "none)\n    drop\n",
        "none)\n",
        "test_firewall.py::test_who_reaches_what",
    ),
    "no gate before patches": Mutation(
        "steps/patch.sh",
        "! joined || out_of_service patches",
        "true",
        "test_patch.py::test_a_member_is_drained_behind_the_gate_when_all_is_here",
    ),
    "a member is drained before the packages are here": Mutation(
        "steps/patch.sh",
        "    patches_ready\n",
        "    ! joined || out_of_service patches\n    patches_ready\n",
        "test_patch.py::test_sources_that_cannot_be_reached_disturb_nobody",
    ),
    "a round is done again and again": Mutation(
        "steps/patch.sh",
        '    mark_applied patching "$round"\n',
        "",
        "test_patch.py::test_a_round_is_done_once",
    ),
    "a host that is about to restart lets the next step in": Mutation(
        "lib/reboot.sh",
        "== syn drop",
        "== syn accept",
        "test_patch.py::test_nobody_comes_in_before_it_has_restarted",
    ),
    "a host that did not restart counts as restarted": Mutation(
        "lib/reboot.sh",
        "! reboot_due || die",
        "true || die",
        "test_patch.py::test_one_that_did_not_restart_is_named",
    ),
    "settings of SSH are taken without a trial": Mutation(
        "lib/hardening.sh",
        "  systemd-run --quiet --collect --unit=groundplane-ssh-rollback",
        "  : systemd-run --quiet --collect --unit=groundplane-ssh-rollback",
        "test_hardening.py::test_settings_of_ssh_are_on_trial",
    ),
    "sshd is told of settings that it refuses": Mutation(
        "lib/hardening.sh",
        'if ! sshd -t 2>"$RUN/sshd"; then',
        "if false; then",
        "test_hardening.py::test_settings_that_sshd_refuses_are_taken_back",
    ),
    "a container writes settings of the kernel": Mutation(
        "lib/hardening.sh",
        "{ hardening_table \"$1\" | awk -F'\\t' -v OFS='\\t' '$7 != \"no\" {",
        "{ hardening_table \"$1\" | awk -F'\\t' -v OFS='\\t' '{",
        "test_hardening.py::test_in_a_container_nothing_of_the_kernel_is_touched",
    ),
    "a setting that is asked for is not made": Mutation(
        "lib/hardening.sh",
        '[ -z "$key" ] || set_sysctl "$key" "$value"',
        ":",
        "test_hardening.py::test_baseline",
    ),
    "a lower level leaves settings of the kernel": Mutation(
        "lib/hardening.sh",
        '*$\'\\n\'"$key = "* ]] || sysctl_back "$key"',
        "*$'\\n'\"$key = \"* ]] || :",
        "test_hardening.py::test_a_lower_level_takes_back_what_it_does_not_ask",
    ),
    "what is exempt is set": Mutation(
        "lib/hardening.sh",
        ' && !index(exempt, " " $1 " ")',
        "",
        "test_hardening.py::test_what_is_exempt_is_left_alone",
    ),
    "files keep rights that they may not have": Mutation(
        "lib/hardening.sh",
        'chmod "$(printf %o $((8#$is & 8#$most)))" "$path"',
        ":",
        "test_hardening.py::test_files_have_no_more_rights_than_they_may",
    ),
    "silence of the API server takes all routes away": Mutation(
        "plain-network",
        '  [ -n "$wanted" ] || return 0\n',
        "",
        "test_network.py::test_silence_of_the_api_server_removes_nothing",
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_test_turns_red(mutation: Mutation, tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    file = scripts / mutation.file
    text = file.read_text()
    assert text.count(mutation.was) == 1, f"{mutation.file} does not say this once any more"
    file.write_text(text.replace(mutation.was, mutation.now))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider",
         f"--basetemp={tmp_path / 'pytest'}", TESTS / "scripts" / mutation.test],
        cwd=TESTS.parent,
        env={
            **os.environ,
            "GROUNDPLANE_TEST_SCRIPTS": str(scripts),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    # 1: tests failed. Anything else means that pytest could not run them.
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr
