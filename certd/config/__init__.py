"""The operator's configuration: TOML to a frozen Config, or to everything wrong with it.

Importing this imports no pydantic, for most commands need the values and the state folder
only; ``load`` and ``schema`` do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from certd.config.authorities import CASettings, EABSettings
from certd.config.findings import BadConfig, Finding
from certd.config.source import Source, certd_at_a_glance, read, state_at_a_glance
from certd.config.values import (
    ClientSettings,
    Config,
    DistributionSettings,
    DNSSettings,
    Endpoint,
    Hooks,
    HTTPSettings,
    ListenAddress,
    TargetSettings,
)
from certd.config.wellknown import WELL_KNOWN, WellKnownCA
from certd.errors import ConfigError
from certd.references import SecretReference, reference

__all__ = [
    "WELL_KNOWN",
    "BadConfig",
    "CASettings",
    "ClientSettings",
    "Config",
    "DNSSettings",
    "DistributionSettings",
    "EABSettings",
    "Endpoint",
    "Finding",
    "HTTPSettings",
    "Hooks",
    "ListenAddress",
    "TargetSettings",
    "WellKnownCA",
    "load",
    "load_tables",
    "refused_names",
    "schema",
    "seal",
    "state_folder",
]


def load(path: Path) -> Config:
    """The configuration in the file, whole and right, its targets built.

    Raises:
        BadConfig: with every finding, each with its line.
    """
    from certd.config import reading

    return reading.config(read(path), path)


def load_tables(tables: Mapping[str, Any]) -> Config:
    """The same of what would be in a file: ``{"certificate": {"www": {"names": […]}}}``.

    Raises:
        BadConfig: with every finding; they have no lines.
    """
    from certd.config import reading

    source = Source.of(tables)
    return reading.config(source, source.folder)


def refused_names(config: Config, names: Collection[str]) -> list[Finding]:
    """What the CAs of these certificates would refuse of their names, before they are asked."""
    from certd.config import refusals

    return refusals.refused_names(config, names)


def state_folder(path: Path) -> tuple[Path, str]:
    """The state folder (absolute) and the digest of the file, as ``load`` would give them.

    Reads the text of ``[certd]`` only, and finds no mistake elsewhere; where that text is
    not plain enough, the whole file is loaded.

    Raises:
        BadConfig: the file cannot be read, or the whole of it had to be and is wrong.
    """
    source = read(path)
    state = state_at_a_glance(source)
    if state is not None:
        return state, source.digest
    config = load(path)
    return config.state, config.digest


def seal(path: Path) -> SecretReference | None:
    """The place of the sealing key, as ``load`` would give it, read as ``state_folder`` does.

    Raises:
        BadConfig: the file cannot be read, or the whole of it had to be and is wrong.
    """
    source = read(path)
    table = certd_at_a_glance(source)
    try:
        if table is not None:
            return reference(table["seal"], source.folder) if "seal" in table else None
    except ConfigError:
        pass
    return load(path).seal


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors.

    Raises:
        ConfigError: an installed plugin does not load.
    """
    from certd.config import reading

    return reading.schema()
