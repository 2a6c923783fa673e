"""What is said to whoever cannot carry the lab, and what is left alone until all is well."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.host import cannot

from groundplane.errors import SpecError
from lab import doctor, stack
from lab.config import CHECKOUT, Lab


@pytest.fixture
def lab() -> Lab:
    # Its place is part of what is said.
    return Lab("gp", CHECKOUT / ".lab")


def test_another_architecture(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **how: Any) -> None:
        assert "install-packages" not in str(words), "nothing is installed where it is of no use"

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(doctor, "_overlay", lambda: None)
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(SpecError, match="aarch64, and the lab is for amd64 only"):
        doctor.examine(lab, print)


@pytest.mark.skipif(
    os.geteuid() != 0 or bool(cannot()) or shutil.which("nft") is None,
    reason="as root, with nft and namespaces",
)
def test_a_kernel_that_cannot_make_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    for name in ("_architecture", "_root", "_overlay"):
        monkeypatch.setattr(doctor, name, lambda: None)
    for name in ("_memory", "_disk"):
        monkeypatch.setattr(doctor, name, lambda *_: None)
    monkeypatch.setattr(doctor, "PACKAGES", [])
    doctor.examine(lab, print)
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\necho 'Error: Could not process rule: Not supported' >&2; exit 1\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SpecError, match="Not supported"):
        doctor.examine(lab, print)


def test_a_kubeconfig_is_whole_or_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab("gp", tmp_path)
    monkeypatch.setattr(stack, "pulumi", lambda *_, **__: "new")
    file = tmp_path / "kubeconfig-lab-metal"
    file.write_text("old")
    file.chmod(0o644)

    def full(path: Path, text: str) -> None:
        path.write_bytes(text[:1].encode())
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Path, "write_text", full)
        stack.write_kubeconfig(lab)
    assert file.read_text() == "old"
    stack.write_kubeconfig(lab)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)


def make(folder: Path, python: str) -> str:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / "lab").mkdir(exist_ok=True)
    install = folder / "lab" / "install-packages"
    install.write_text('#!/bin/sh\necho "install $*"\nexit 1\n')
    install.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", ".venv", f"PYTHON={python}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_without_a_python_that_is_new_enough(tmp_path: Path) -> None:
    said = make(tmp_path, "")
    assert "apt-get install python3.11 python3.11-venv" in said


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_venv_module_is_that_of_the_python(tmp_path: Path) -> None:
    """Where the system's own Python is too old, python3-venv is for another one."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *print*) echo python3.11-venv ;; esac\n'
    )
    python.chmod(0o755)
    assert "install python3.11-venv" in make(tmp_path, str(python))
