"""The rules, one file an area. A file that is put here is found."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from rules.rule import Rule

__all__ = ["all_rules"]


def all_rules() -> list[Rule]:
    """Every rule, by area and in the order of its file."""
    modules = [import_module(f"rules.{found.name}") for found in iter_modules(__path__)]
    return [each for module in modules for each in vars(module).values() if isinstance(each, Rule)]
