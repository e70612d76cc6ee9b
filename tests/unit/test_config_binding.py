"""``eab`` in a CA's table: right, wrong, missing; and what another one means."""

from __future__ import annotations

from pathlib import Path

import pytest

from certd import config as configuration
from certd.config import identifiers
from certd.errors import ConfigError
from certd.secrets import Secret
from tests.configuring import AGREED, WWW, Write, wrong

HMAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
GOOGLE = "[ca.google]\nagree_tos = true\n"


@pytest.mark.parametrize(
    ("eab", "said"),
    [
        pytest.param(
            '"kid-1"',
            'eab: expected a table, found a string; write eab = { kid = "…"',
            id="no table",
        ),
        pytest.param("{}", "eab.kid: missing: the CA names the key that binds", id="empty"),
        pytest.param('{ kid = "x" }', "eab.hmac: missing: the CA gives it together", id="no key"),
        pytest.param(
            f'{{ kid = "x", hmca = "{HMAC}" }}',
            "eab.hmca: unknown key; did you mean hmac?",
            id="near",
        ),
        pytest.param(f'{{ kid = "", hmac = "{HMAC}" }}', "eab.kid", id="no key id"),
        pytest.param(f'{{ kid = 12, hmac = "{HMAC}" }}', "eab.kid: expected a string", id="number"),
        pytest.param(
            f'{{ kid = "x", hmac = "{HMAC}!" }}',
            "eab.hmac: the key is not base64url: CAs give it in letters, digits, - and _; copy",
            id="no base64url",
        ),
        pytest.param(
            '{ kid = "x", hmac = { fil = "y" } }', 'eab.hmac: unknown key "fil"', id="no place"
        ),
    ],
)
def test_a_mistake_has_its_line_and_no_key(write: Write, eab: str, said: str) -> None:
    lines = wrong(write(f"{GOOGLE}eab = {eab}\n"))
    assert any(line.startswith(f"certd.toml:3: [ca.google] {said}") for line in lines), lines
    assert HMAC not in "".join(lines)


def test_it_is_read_and_not_fetched(write: Write, tmp_path: Path) -> None:
    (tmp_path / "hmac").write_text("anything")
    (tmp_path / "hmac").chmod(0o600)
    text = f'{GOOGLE}[ca.google.eab]\nkid = "x"\nhmac = {{ file = "hmac" }}\n'
    config = configuration.load(write(text + WWW))
    eab = config.cas["google"].eab
    assert eab is not None
    assert (eab.kid, str(eab.hmac)) == ("x", f'{{ file = "{tmp_path}/hmac" }}')
    assert config.warnings == ()


def test_a_key_in_the_file_itself_is_warned_of(write: Write) -> None:
    config = configuration.load(write(f'{GOOGLE}eab = {{ kid = "x", hmac = "{HMAC}" }}\n'))
    [warning] = map(str, config.warnings)
    assert warning.startswith("certd.toml:3: [ca.google] eab.hmac: the secret stands in the")
    assert HMAC not in repr(config)


@pytest.mark.parametrize("ca", ["google", "zerossl", "sslcom", "actalis"])
def test_that_it_is_missing_is_known_of_some_cas(write: Write, ca: str) -> None:
    www = f'{WWW}ca = ["{ca}", "letsencrypt"]\n'
    bound = f'[ca.{ca}]\neab = {{ kid = "x", hmac = "{HMAC}" }}\n'
    elsewhere = f'[ca.{ca}]\ndirectory = "https://ca.example/dir"\n'
    assert configuration.load(write(AGREED + www)).unbound == [ca]
    assert configuration.load(write(AGREED + bound + www)).unbound == []
    assert configuration.load(write(AGREED + elsewhere + www)).unbound == []


def test_another_key_is_another_table_and_none_is_the_table_of_before(write: Write) -> None:
    def digest(eab: str) -> str:
        config = configuration.load(write(f"{GOOGLE}{eab}\n"))
        assert HMAC not in str(config.table_digests)
        return config.table_digests["ca google"]

    digests = [
        digest(f'eab = {{ kid = "{kid}", hmac = {hmac} }}')
        for kid in ("x", "y")
        for hmac in (f'"{HMAC}"', f'"{HMAC[4:]}"', '{ env = "HMAC" }')
    ]
    assert len({*digests, digest("")}) == 7


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("AAEC_-8", b"\x00\x01\x02\xff\xef", id="base64url"),
        pytest.param("AAEC_-8=", b"\x00\x01\x02\xff\xef", id="padded"),
        pytest.param(
            " AAEC/+8= ", b"\x00\x01\x02\xff\xef", id="plain base64, with space around it"
        ),
    ],
)
def test_a_key_is_taken_as_cas_give_it(text: str, key: bytes) -> None:
    assert identifiers.mac_key(Secret(text)) == key


@pytest.mark.parametrize("text", ["", "=", "A", "AAECA", "AA EC", "kid: AAEC", "ü"])
def test_what_is_no_key_is_not_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match="not base64url") as caught:
        identifiers.mac_key(Secret(text))
    assert len(text) < 3 or text not in str(caught.value)
