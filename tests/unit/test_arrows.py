"""The layers leave no module out: a new one has its place among them, or a test fails."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[2]
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"]: contract
    for contract in tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
}


def modules() -> set[str]:
    """The top-level modules and packages of certd."""
    paths = (HERE / "certd").iterdir()
    found = {path.name.removesuffix(".py") for path in paths if path.suffix == ".py"}
    packages = {path.parent.name for path in (HERE / "certd").glob("*/__init__.py")}
    return {f"certd.{name}" for name in (found | packages) - {"__init__"}}


def test_the_layers_have_every_module_but_those_above_all() -> None:
    layers = CONTRACTS["The arrows of the house"]["layers"]
    listed = {module for layer in layers for module in layer.split(" | ")}
    assert listed == modules() - {"certd.testing", "certd.__main__"}
