"""exec: the contract of every provider, with a real program that keeps a file; and its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certd_providers.exec import Exec

from certd.api import (
    ConfigError,
    NotHere,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    TxtRecord,
)
from certd.testing.dns import Account, DNSProviderContract

ZONE = "example.com"
RECORD = TxtRecord(ZONE, f"_acme-challenge.www.{ZONE}", "-a_value-of-base64url", 60)
# A line for each value, as "NAME VALUE"; it is rewritten whole, under a lock.
PROGRAM = """#!/bin/sh
# Usage: ZONEFILE TOKEN add|remove NAME VALUE
[ "$2" = good ] || { echo "the token is not good" >&2; exit 77; }
[ "$CERTD_ZONE" = example.com ] || { echo "no zone $CERTD_ZONE" >&2; exit 1; }
exec 9>"$1.lock"
flock 9
touch "$1"
grep -Fvx -e "$4 $5" "$1" >"$1.new"
[ "$3" = add ] && printf '%s %s\\n' "$4" "$5" >>"$1.new"
mv "$1.new" "$1"
"""

Script = Callable[..., Exec]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(text: str, **settings: Any) -> Exec:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return Exec((str(path),), **settings)

    return write


class TestExecContract(DNSProviderContract):
    @pytest.fixture
    def account(self, tmp_path: Path) -> Account:
        program, kept = tmp_path / "txt", tmp_path / "zone"
        program.write_text(PROGRAM)
        program.chmod(0o755)

        def values(name: str) -> list[str]:
            lines = kept.read_text().splitlines() if kept.exists() else []
            return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]

        def provider(token: str) -> Exec:
            return Exec((str(program), str(kept), token))

        return Account(provider("good"), ZONE, values, provider("bad"))


def test_the_program_is_told_all_of_the_record_and_nothing_else(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTD_TOKEN", "of the daemon's own environment")
    told = tmp_path / "told"
    script(f'{{ printf "%s\\n" "$@"; env | grep ^CERTD | sort; cat; }} >"{told}"').add_txt(RECORD)
    assert told.read_text().splitlines() == [
        "add",
        RECORD.name,
        RECORD.value,
        "CERTD_LABEL=_acme-challenge.www",
        "CERTD_TTL=60",
        f"CERTD_ZONE={ZONE}",
    ]


def test_no_shell_takes_its_arguments_apart(tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'told')!r}, 'w').write(repr(sys.argv[1:]))"
    Exec((sys.executable, "-c", code, "$HOME; *")).remove_txt(RECORD)
    told = (tmp_path / "told").read_text()
    assert told == repr(["$HOME; *", "remove", RECORD.name, RECORD.value])


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        pytest.param("echo later; exit 75", ProviderBusy, "status 75", id="EX_TEMPFAIL"),
        pytest.param("echo no >&2; exit 77", ProviderDenied, "status 77", id="EX_NOPERM"),
        pytest.param("echo a bug; exit 1", ProviderError, '"a bug"', id="any other status"),
        pytest.param("kill -9 $$", ProviderError, "SIGKILL", id="a signal"),
        pytest.param("printf '\\033[2Jx'; exit 1", ProviderError, '"?[2Jx"', id="for terminals"),
    ],
)
def test_how_it_ends_says_what_it_means(
    script: Script, text: str, kind: type[ProviderError], why: str
) -> None:
    with pytest.raises(ProviderError) as failed:
        script(text).add_txt(RECORD)
    assert type(failed.value) is kind
    assert why in failed.value.why
    assert failed.value.next


def test_one_that_hangs_ends_with_all_that_it_has_started(tmp_path: Path, script: Script) -> None:
    provider = script(f'sleep 60 & echo $! >"{tmp_path}/child"; sleep 60', program_timeout=2.0)
    began = time.monotonic()
    with pytest.raises(ProviderBusy, match=r"within 2 s.*raise program_timeout"):
        provider.add_txt(RECORD)
    assert time.monotonic() - began < 20
    process, deadline = Path("/proc") / (tmp_path / "child").read_text().strip(), began + 30
    while process.exists() and process.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="cannot be started: No such file"):
        Exec((str(tmp_path / "gone"),)).add_txt(RECORD)


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [
        pytest.param("argv", (), ConfigError, id="no program"),
        pytest.param("argv", ("no-such-program",), NotHere, id="one that is not here"),
        pytest.param("program_timeout", 0.0, ConfigError, id="no time"),
        pytest.param("program_timeout", float("inf"), ConfigError, id="all the time"),
        pytest.param("program_timeout", float("nan"), ConfigError, id="no number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    setting: str, value: object, kind: type[ConfigError]
) -> None:
    check = Exec.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(kind) as refused:
        check(value)
    assert type(refused.value) is kind
    assert refused.value.next
