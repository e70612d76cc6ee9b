"""Plugins: found, described by their fields, built from a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from certd import plugins
from certd.config.tables import TargetTable
from certd.errors import ConfigError
from certd.references import SecretReference
from certd.secrets import Secret
from certd.settings import Surroundings
from tests import shelf


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("site")
    shelf.install(folder)
    monkeypatch.syspath_prepend(folder)


def built(folder: Path, **table: Any) -> Any:
    plugin = plugins.plugin_class("shelf", plugins.deploy_targets())
    model = plugins.settings_model("shelf", plugin, TargetTable)
    settings = model.model_validate({"type": "shelf", **table}, context=Surroundings(folder))
    return plugins.build(plugin, settings)


def test_certds_own_and_a_strangers_plugins_are_found_in_the_same_way() -> None:
    assert {"disk", "shelf"} <= plugins.deploy_targets().keys()
    assert "disk" not in plugins.dns_providers()


def test_only_what_the_operator_wrote_is_passed_on(tmp_path: Path) -> None:
    assert built(tmp_path, path="/srv") == shelf.Shelf(Path("/srv"))


def test_a_table_becomes_the_plugins_own_types(tmp_path: Path) -> None:
    plugin = built(
        tmp_path,
        path="certs/{name}",
        copy=2,
        token="s3cret",
        tokens=["a", "b"],
        others=["x", "/y"],
        labels={"room": "3"},
        reload=["true"],
        wait=5,
    )
    assert plugin == shelf.Shelf(
        path=tmp_path / "certs/{name}",
        copy=2,
        token=Secret("s3cret"),
        tokens=(Secret("a"), Secret("b")),
        others=(tmp_path / "x", Path("/y")),
        labels={"room": "3"},
        reload=("true",),
        wait=5.0,
    )


@pytest.mark.parametrize(
    ("name", "what", "why", "next"),
    [
        pytest.param("shlef", "shlef", "shelf", "did you mean shelf?", id="unknown, but near"),
        pytest.param("?", "?", "shelf", "install the package", id="unknown"),
        pytest.param("broken", "does not load", "no_such_module", "reinstall", id="import fails"),
        pytest.param("mutable", "not a plugin", "frozen dataclass", "author", id="not frozen"),
    ],
)
def test_what_cannot_be_loaded_says_so(name: str, what: str, why: str, next: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins.plugin_class(name, plugins.deploy_targets())
    assert what in caught.value.what
    assert why in caught.value.why
    assert next in caught.value.next


@pytest.mark.parametrize("name", ["clash", "strange"])
def test_fields_that_cannot_be_settings_are_the_authors_to_correct(name: str) -> None:
    plugin = plugins.plugin_class(name, plugins.deploy_targets())
    with pytest.raises(ConfigError, match="author"):
        plugins.settings_model(name, plugin, TargetTable)


def test_a_reference_is_fetched_by_the_plugin_when_it_is_used(tmp_path: Path) -> None:
    plugin = built(tmp_path, path="/srv", password={"file": "password"}, keys=["a", {"env": "KEY"}])
    assert plugin.password == SecretReference("file", tmp_path / "password")
    assert plugin.keys == (SecretReference("plain", Secret("a")), SecretReference("env", "KEY"))
    (tmp_path / "password").write_text("s3cret\n")
    assert plugin.password.fetch() == Secret("s3cret")


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Settings that a stranger's library knows: some are secret."""

    options: dict[str, str | SecretReference]


def test_a_setting_may_be_a_string_or_a_reference_and_a_mistake_in_it_is_told_once() -> None:
    model = plugins.settings_model("mixed", Mixed, TargetTable)
    around = Surroundings(Path("/etc"))

    def validated(options: dict[str, Any]) -> Any:
        return model.model_validate({"type": "mixed", "options": options}, context=around)

    made = plugins.build(Mixed, validated({"user": "me", "token": {"env": "KEY"}}))
    assert made.options == {"user": "me", "token": SecretReference("env", "KEY")}
    assert not around.warnings
    with pytest.raises(ValidationError) as wrong:
        validated({"token": {"fil": "x"}})
    assert [error["loc"] for error in wrong.value.errors()] == [("options", "token")]


def test_a_secret_is_in_no_text_of_the_validated_table(tmp_path: Path) -> None:
    plugin = plugins.plugin_class("shelf", plugins.deploy_targets())
    model = plugins.settings_model("shelf", plugin, TargetTable)
    table: dict[str, Any] = {
        "type": "shelf",
        "path": "/srv",
        "token": "s3cret",
        "tokens": ["s3cret"],
    }
    table |= {"password": "s3cret", "keys": ["s3cret"]}
    settings = model.model_validate(table, context=Surroundings(tmp_path))
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert plugins.secret_settings(plugin) == {"token", "tokens", "lock", "password", "keys"}
