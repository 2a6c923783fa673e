"""What the package promises as a whole: its public names, and what it costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from pkgutil import walk_packages

import pytest

import groundplane

ROOT = Path(groundplane.__file__).parent
CHECKOUT = ROOT.parent.parent
MODULES = ["groundplane", *(m.name for m in walk_packages(groundplane.__path__, "groundplane."))]


def source(module: str) -> ast.Module:
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    return ast.parse(Path(found.origin).read_text())


# ---- public names ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", groundplane.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(groundplane, name)
    assert inspect.getdoc(found), name
    # Not the documentation of a base class.
    assert found.__doc__, name


@pytest.mark.parametrize("name", groundplane.__all__)
def test_what_a_public_class_has_is_documented(name: str) -> None:
    """Each public attribute carries a docstring, each public method too."""
    found = getattr(groundplane, name)
    if not inspect.isclass(found):
        return
    (tree,) = [
        node
        for node in ast.walk(source(found.__module__))
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    bare = []
    for node, after in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if not node.target.id.startswith("_") and not isinstance(after, ast.Expr):
                bare.append(node.target.id)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            bare += [node.name] if ast.get_docstring(node) is None else []
    assert bare == []


def test_names_are_looked_up_where_they_are() -> None:
    assert sorted(groundplane.__all__) == sorted(groundplane._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        groundplane.nothing  # noqa: B018 - the look itself is the test


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for_and_what_it_gives(module: str) -> None:
    tree = source(module)
    assert ast.get_docstring(tree), module
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            # As ruff sorts it: constants, classes, then the rest.
            groups = [[n for n in names if kind(n) == k] for k in range(3)]
            assert names == [name for group in groups for name in sorted(group)], module
            assert all(hasattr(importlib.import_module(module), name) for name in names)


def kind(name: str) -> int:
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


# ---- what it costs ---------------------------------------------------------------------------

HEAVY = {"pulumi", "asyncssh", "pydantic", "cryptography", "grpc", "rich"}


def loaded(statement: str) -> set[str]:
    """What of the heavy packages a fresh interpreter has after this."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


def test_the_import_alone_is_free() -> None:
    assert loaded("import groundplane") == set()


def test_help_needs_no_pulumi_and_no_ssh() -> None:
    """A command line that thinks for a second before it says anything is not asked twice."""
    statement = "from groundplane import cli; cli.cli(['--help'], standalone_mode=False)"
    assert not loaded(statement) & {"pulumi", "grpc", "asyncssh", "cryptography"}


def test_a_specification_needs_no_pulumi() -> None:
    assert not loaded("import groundplane; groundplane.Spec") & {"pulumi", "grpc", "asyncssh"}


def test_imports_point_one_way() -> None:
    """The contracts of pyproject.toml."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT.parent}:{CHECKOUT}"},
    )
    assert done.returncode == 0, done.stdout
