"""A place is for one certificate: two that would share one are a mistake of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from certd import config as configuration
from certd.api import Bundle
from certd.config import BadConfig
from tests import shelf

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Targets ``t0``, ``t1``, … as these tables, and certificates with theirs: ``a:t0 b:t1``."""
    monkeypatch.chdir(tmp_path)

    def write(*targets: str, certificates: str) -> Path:
        tables = ["[ca.letsencrypt]\nagree_tos = true\n"]
        tables += [f"[target.t{number}]\n{table}\n" for number, table in enumerate(targets)]
        for item in certificates.split():
            name, target = item.split(":")
            tables.append(
                f'[certificate.{name}]\nnames = ["{name}.example"]\ntargets = ["{target}"]\n'
            )
        Path("certd.toml").write_text("".join(tables))
        return Path("certd.toml")

    return write


def disk(path: str) -> str:
    return f'type = "disk"\npath = "{path}"'


def wrong(path: Path) -> str:
    with pytest.raises(BadConfig) as caught:
        configuration.load(path)
    [finding] = caught.value.findings
    return str(finding)


@pytest.mark.parametrize(
    ("paths", "certificates", "line", "folder"),
    [
        pytest.param(["tls"], "a:t0 b:t0", 11, "tls", id="one target"),
        pytest.param(["tls", "./tls"], "a:t0 b:t1", 14, "tls", id="two of the same path"),
        pytest.param(["tls/{name}", "tls/a"], "a:t0 b:t1", 14, "tls/a", id="another's folder"),
    ],
)
def test_two_certificates_in_one_folder_are_a_mistake(
    write: Write, tmp_path: Path, paths: list[str], certificates: str, line: int, folder: str
) -> None:
    target = f"t{len(paths) - 1}"
    assert wrong(write(*map(disk, paths), certificates=certificates)) == (
        f'certd.toml:{line}: [certificate.b] targets: "{target}" puts it in the place of "a": '
        f"{tmp_path / folder} has room for one certificate only; write {{name}}, the name of the "
        f"certificate, in the path of [target.{target}], or give each a target of its own"
    )


@pytest.mark.parametrize(
    ("paths", "certificates"),
    [
        (["tls/{name}"], "a:t0 b:t0"),
        (["tls", "mail"], "a:t0 b:t1"),
        (["tls/{name}", "tls/b"], "a:t0 b:t1"),
    ],
)
def test_each_in_a_folder_of_its_own_is_right(
    write: Write, paths: list[str], certificates: str
) -> None:
    config = configuration.load(write(*map(disk, paths), certificates=certificates))
    assert config.certificates.keys() == {"a", "b"}


@dataclass(frozen=True)
class Careless:
    """A stranger's target, whose ``place`` fails."""

    def place(self, name: str) -> str:
        raise LookupError(name)

    def deploy(self, bundle: Bundle) -> None: ...

    def serving(self, name: str) -> str | None: ...


@dataclass(frozen=True)
class Furniture:
    """A target with a setting of that name."""

    place: str = "the hall"


@pytest.fixture
def _strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = (Careless, Furniture)
    entries = "".join(f"{each.__name__.lower()} = {__name__}:{each.__name__}\n" for each in classes)
    shelf.install(tmp_path, f"[certd.deploy_targets]\n{entries}")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_strangers")
def test_a_plugin_that_cannot_say_its_place_is_named(write: Write) -> None:
    assert wrong(write('type = "careless"', certificates="a:t0")) == (
        "certd.toml:3: [target.t0]: the plugin cannot say where it puts a certificate: "
        "LookupError; tell its author"
    )


@pytest.mark.usefixtures("_strangers")
def test_a_plugin_need_not_say_its_place(write: Write) -> None:
    configuration.load(write('type = "furniture"', certificates="a:t0 b:t0"))
