"""The endpoints of ``verify``: a string or a table, and each mistake in one in its own words."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certd import config as configuration
from certd.config import BadConfig, Endpoint, schema
from certd.config.hsts import HSTS
from certd.testing.tls import mint

Write = Callable[[str], Path]
PIN = base64.b64encode(bytes(32)).decode()
TARGET = '[target.web]\ntype = "disk"\npath = "{{name}}"\nverify = [{}]\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(verify: str) -> Path:
        path = tmp_path / "certd.toml"
        path.write_text(TARGET.format(verify))
        return path

    return write


def endpoints(path: Path) -> tuple[Endpoint, ...]:
    return configuration.load(path).targets["web"].verify


def test_a_table_says_all_of_an_endpoint(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sslyze"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    root = mint(tmp_path).root
    path = write(
        f'"a.example:25", {{ at = "B.example:443", sni = "C.example.", '
        f'addresses = ["192.0.2.1", "2001:DB8::1"], roots = "root.pem", pins = ["{PIN}"], '
        'tls = "modern", hsts = "max-age=1" }, { at = "a.example:25", starttls = "smtp" }'
    )
    assert endpoints(path) == (
        Endpoint("a.example", 25),
        Endpoint(
            "b.example",
            443,
            sni="c.example",
            addresses=("192.0.2.1", "2001:db8::1"),
            roots=root,
            pins=(PIN,),
            tls="modern",
            hsts=HSTS(1),
        ),
        Endpoint("a.example", 25, starttls="smtp"),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('{ sni = "a.example" }', 'at: missing: it says which server is looked at; add at = "'),
        ('{ at = "a.example" }', 'at: "a.example" is not host:port'),
        ('{ at = "a.example:25", startls = "smtp" }', "startls: unknown key; did you mean startt"),
        ('{ at = "a.example:25", starttls = "smtps" }', 'starttls: unknown: "smtps"; did you me'),
        ('{ at = "a.example:443", sni = "192.0.2.1" }', 'sni: "192.0.2.1" is no server name'),
        ('{ at = "a.example:443", sni = "*.a.example" }', 'sni: "*.a.example" is no server name'),
        (
            '{ at = "a.example:443", addresses = ["b.example"] }',
            'addresses: "b.example" is no IP address; write it as "192.0.2.7"',
        ),
        (
            '{ at = "a.example:443", addresses = ["2001:db8::1", "2001:DB8:0::1"] }',
            'addresses: "2001:db8::1" is there twice; leave one of them out',
        ),
        (f'{{ at = "a.example:443", pins = ["{PIN}", "{PIN}"] }}', '" is there twice; leave one'),
        ('{ at = "a.example:443", addresses = "192.0.2.1" }', 'write addresses = ["192.0.2.1"]'),
        ('{ at = "a.example:443", pins = ["abc"] }', 'pins: "abc" is no pin-sha256: it is 32'),
        ('{ at = "a.example:443", roots = "nothing.pem" }', "roots: "),
        ('{ at = "a.example:25", starttls = "SMTP" }', 'starttls: unknown: "SMTP"; did you mean s'),
        ('{ at = "a.example:443", tls = "old" }', 'tls: unknown: "old"; known here: intermediate'),
        ('{ at = "a.example:443", hsts = "max-age" }', "hsts: max-age is no number of seconds"),
        (
            '{ at = "a.example:25", starttls = "smtp", hsts = "max-age=1" }',
            "hsts and starttls are both there",
        ),
        ("443", "expected a string or a table, found an integer; write "),
        ('"a.example:1", { at = "a.example:1" }', '"a.example:1" is there twice'),
    ],
)
def test_a_mistake_is_told_in_its_own_words(write: Write, entry: str, said: str) -> None:
    with pytest.raises(BadConfig) as refused:
        configuration.load(write(entry))
    assert said in str(refused.value)
    assert "[target.web] verify: " in str(refused.value)


def test_all_mistakes_of_a_table_are_told_with_their_lines(write: Write) -> None:
    path = write('\n"a.example:1",\n{ at = "b", starttls = "imaps", nonsense = 1 }')
    with pytest.raises(BadConfig) as refused:
        configuration.load(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}:6: ") for line in lines)


def test_a_policy_needs_sslyze(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    found = configuration.load(write('{ at = "a.example:443", tls = "modern" }'))
    [lack] = found.lacking
    assert "there is no program sslyze" in str(lack)
    assert "pip install 'certd[sslyze]'" in str(lack)


def test_what_an_extra_has_put_beside_the_interpreter_is_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "sslyze").touch(mode=0o755)
    assert not configuration.load(write('{ at = "a.example:443", tls = "modern" }')).lacking


def test_the_schema_has_both_forms() -> None:
    whole = schema()
    [target] = [table for name, table in whole["$defs"].items() if name == "disk_target"]
    text, table = target["properties"]["verify"]["items"]["anyOf"]
    assert text == {"type": "string"}
    assert table == {"$ref": "#/$defs/EndpointTable"}
    properties = whole["$defs"]["EndpointTable"]["properties"]
    assert properties.keys() >= {"at", "sni", "starttls", "addresses", "roots", "pins", "hsts"}
    assert whole["$defs"]["EndpointTable"]["required"] == ["at"]


def test_a_window_that_is_there_twice_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "certd.toml"
    window = 'window = ["Sun 02:00-05:00", "Mon 02:00-05:00", "Sun 02:00-05:00"]\n'
    path.write_text(f'[target.web]\ntype = "disk"\npath = "{{name}}"\n{window}')
    with pytest.raises(BadConfig) as refused:
        configuration.load(path)
    assert str(refused.value) == (
        f'{path}:4: [target.web] window: "Sun 02:00-05:00" is there twice; leave one of them out'
    )
