"""A host with an etcd, a recipient of its snapshots, and targets for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_support import Machine, Recipient, make_machine, make_recipient
from bucket import Bucket
from support.sshd import Sshd, run_sshd


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return make_machine(tmp_path)


@pytest.fixture(scope="session")
def recipient(tmp_path_factory: pytest.TempPathFactory) -> Recipient:
    return make_recipient(tmp_path_factory.mktemp("recipient"), "ec")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Recipient:
    return make_recipient(tmp_path_factory.mktemp("stranger"), "ec")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    with run_sshd(folder, "Subsystem sftp internal-sftp") as running:
        yield running


@pytest.fixture(scope="module")
def sftp_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An account that may copy files and nothing else."""
    folder = tmp_path_factory.mktemp("sftp")
    settings = ("Subsystem sftp internal-sftp", "ForceCommand internal-sftp")
    with run_sshd(folder, *settings) as running:
        yield running


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket.serving() as running:
        yield running
