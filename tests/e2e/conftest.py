"""The lab that all end-to-end tests share; its machines are made anew by each story.

A file is one story: when a test of it fails, the rest of the file is skipped, since each begins
where the one before it ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness import Guests, Stack

from lab import environment, machines, mirror
from lab.__main__ import begin
from lab.config import TWINS, configured
from lab.parts import recipes

# Beside any lab that a person has up in this checkout.
os.environ.setdefault("GROUNDPLANE_LAB", "e2e")

# Ten minutes to half an hour each, most of it kubeadm's own: run them by `make e2e-all`.
LONG = {
    "test_20_members.py",
    "test_21_upgrade.py",
    "test_22_five.py",
    "test_24_firewall.py",
    "test_24_hardening.py",
    "test_40_restore.py",
    "test_51_twins.py",
    "test_50_vm_and_metal.py",
    "test_50_vm_guests.py",
    "test_60_languages.py",
}

FAILED = pytest.StashKey[dict[Path, str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(5400 if "vm" in item.path.stem else 1500))
            if item.path.name in LONG:
                item.add_marker(pytest.mark.long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if report.failed:
        item.config.stash.setdefault(FAILED, {}).setdefault(item.path, item.name)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    broken = item.config.stash.get(FAILED, {}).get(item.path)
    if broken is not None:
        pytest.skip(f"the story ended at {broken}")


@pytest.fixture(scope="session")
def wanted(request: pytest.FixtureRequest) -> Sequence[recipes.Part]:
    """The parts that the stories take which are run."""
    long = any(item.get_closest_marker("long") for item in request.session.items)
    return recipes.UPGRADES if long else recipes.STORIES


@pytest.fixture(scope="session")
def session_stack(wanted: Sequence[recipes.Part]) -> Iterator[Stack]:
    if os.geteuid() != 0:
        pytest.skip("makes machines, which takes root")
    lab = configured()
    begin(lab, wanted=wanted)
    environment.write(lab)
    stack = Stack(lab)
    for old in stack.logs.glob("*.log"):
        old.unlink()
    yield stack
    if os.environ.get("GROUNDPLANE_KEEP"):
        return  # for looking at what failed
    stack.forget()
    mirror.stop(lab.folder)
    machines.destroy_all(lab)
    environment.forget(lab)


@pytest.fixture(scope="session")
def session_guests(session_stack: Stack, wanted: Sequence[recipes.Part]) -> Iterator[Guests]:
    lab = session_stack.lab
    begin(lab, TWINS, wanted)
    guests = Guests(lab)
    yield guests
    if not os.environ.get("GROUNDPLANE_KEEP"):
        guests.forget()


@pytest.fixture
def guests(session_guests: Guests, stack: Stack) -> Iterator[Guests]:
    """The stack of guests, beside `stack`."""
    yield session_guests
    session_guests.stop_all()


@pytest.fixture
def stack(session_stack: Stack) -> Iterator[Stack]:
    """The stack; the mirror serves and all cables are in when a test begins."""
    lab = session_stack.lab
    mirror.set_faults(lab.folder, [])
    for name in machines.names(lab):
        machines.heal(lab, name)
    yield session_stack
    session_stack.stop_all()
