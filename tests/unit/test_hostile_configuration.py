"""Files that are no configuration: one line a mistake with its place, in a bounded time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certd import config as configuration
from certd.config import BadConfig
from certd.config.source import LARGEST, MOST_PARTS
from tests.configuring import AGREED, WWW, Write, wrong
from tests.fuzz import strangers

SLOW = 5.0  # seconds for what takes less than one


# As a test suite for parsers of TOML has them; each stands on line 2.
NOT_TOML = [
    *("a", "a =", "a = 1 b = 2", "a == 1", "= 1", '"a = 1', "a. = 1", ".a = 1", "a..b = 1"),
    *("[a", "[]", "[a]]", "[[a]", "[a]b = 1", "[a.]", "[ [a]]", "[a b]", "[a]\n[a]"),
    *("a = 1\na = 2", "a = 1\n[a]", "a.b = 1\na = 2", "a = {b = 1}\na.c = 2", "a = []\n[[a]]"),
    *("a = 01", "a = 1_", "a = _1", "a = 1__0", "a = 0x", "a = 0xg", "a = 0b2", "a = 0o8"),
    *("a = +0x1", "a = 1.", "a = .1", "a = 1e", "a = 1.e1", "a = Inf", "a = NAN", "a = True"),
    *("a = 2026-13-01", "a = 2026-02-30", "a = 25:00:00", "a = 2026-01-01T", "a = 10000-01-01"),
    *('a = "\\x41"', 'a = "\\ud800"', 'a = "\\U00110000"', 'a = "\\u12"', "a = 'b\nc'", 'a = "b'),
    *('a = "\x01"', "a = '\x1b[2J'", "a = 1 # \x00", "a = '''b", 'a = """b""c', "a = '''''''''"),
    *("a = [1, 2", "a = [,]", "a = [1,,2]", "a = [1 2]", "a = {b = 1", "a = {,}", "a = {b 1}"),
    *("a = {b = 1, b = 2}", "a = {b.c = 1, b = 2}", "a = b", "a = <<EOF", "a: 1", '{"a": 1}'),
    *("\ufeffa = 1", "a\u00a0= 1", "\u00fc = 1", "a = “b”", "a = 1\rb = 2", "<html>", "---"),
]


@pytest.mark.parametrize("text", NOT_TOML)
def test_what_is_not_toml_is_told_with_its_line(text: str, write: Write) -> None:
    path = write("")
    path.write_bytes(f"# first\n{text}".encode())
    [finding] = wrong(path)
    assert finding.startswith(("certd.toml:2: not TOML: ", "certd.toml:3: not TOML: "))
    assert finding.isprintable()


MUCH = 1 << 16


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a." * MUCH + "a = 1", id="a key of many parts"),
        pytest.param("[" + "a . " * MUCH + "a]", id="a table of many parts"),
        pytest.param("x = {" + "'a'." * MUCH + "a = 1}", id="a key in a table of many parts"),
        pytest.param(f"a.{'b.' * 125}c = 1\n" * 1, id="a key of just not too many"),
        pytest.param("x = " + "[" * MUCH, id="lists in lists"),
        pytest.param("x = " + "{a=" * MUCH, id="tables in tables"),
        pytest.param("[[a]]\n" * 9999, id="many tables of one name"),
        pytest.param("".join(f"[t{n}]\n" for n in range(5000)), id="many unknown tables"),
        pytest.param("x = " + "1" * MUCH, id="a number"),
        pytest.param("x = 1e" + "1" * MUCH, id="an exponent"),
        pytest.param("x = '''" + "'" * MUCH, id="quotes"),
        pytest.param('x = "' + "\\" * MUCH, id="backslashes"),
        pytest.param(" " * MUCH + "certd", id="spaces"),
        pytest.param("[" * MUCH + "certd", id="brackets"),
        pytest.param(f"[certificate.a]\nnames = ['{'ü' * MUCH}']", id="a name"),
        pytest.param("[certificate.a]\nnames = [" + "'a b'," * 5000 + "]", id="many names"),
    ],
)
def test_much_of_anything_takes_a_bounded_time(text: str, write: Write) -> None:
    path, begun = write(text), time.process_time()
    assert all(finding.startswith("certd.toml:") for finding in wrong(path))
    with pytest.raises(BadConfig):
        configuration.load(path)
    with contextlib.suppress(BadConfig):
        configuration.state_folder(path)  # which reads no more than it must
    assert time.process_time() - begun < SLOW


def test_no_name_has_as_many_labels_as_a_key_may_not_have(write: Write) -> None:
    longest = "a." * 126 + "a"
    names = [f"x{number}.{longest[4:]}" for number in range(5)]
    quoted = ", ".join(f'"{name}"' for name in names)
    config = configuration.load(write(f"{AGREED}[certificate.www]\nnames = [{quoted}]\n"))
    assert [one.value for one in config.certificates["www"].identifiers] == names
    [finding] = wrong(write(f"\na{'.a' * MOST_PARTS} = 1"))
    assert finding == (
        "certd.toml:2: not a configuration: it has a key of more than 128 parts; correct the line"
    )


# What is no file


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(device: str) -> None:
    [finding] = wrong(Path(device))
    assert finding.startswith(f"{device} cannot be read: ")


@pytest.mark.parametrize("writer", [False, True], ids=["nobody writes", "somebody writes"])
def test_a_pipe_is_not_waited_for(writer: bool, tmp_path: Path) -> None:
    """One that was read would be empty at the next reload."""
    pipe = tmp_path / "certd.toml"
    os.mkfifo(pipe)
    other = os.open(pipe, os.O_RDWR) if writer else -1
    reading = threading.Thread(target=configuration_of, args=(pipe,), daemon=True)
    reading.start()
    reading.join(5)
    assert not reading.is_alive()
    assert wrong(pipe) == [
        f"{pipe} cannot be read: it is a pipe or a device, not a file; name a file with -c"
    ]
    if writer:
        os.close(other)


def configuration_of(path: Path) -> None:
    with contextlib.suppress(BadConfig):
        configuration.load(path)


def test_a_pipe_is_no_bundle_of_roots(write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "root.pem")
    [finding] = wrong(write(f'{AGREED}ca_bundle = "root.pem"\n{WWW}'))
    assert "it is a pipe or a device, not a file" in finding


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "certd.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # and takes no room on the disk
    begun = time.process_time()
    assert wrong(path) == [f"{path}:1: too large: a configuration ends by {LARGEST >> 20} MiB"]
    assert time.process_time() - begun < SLOW


_PIECES = st.one_of(
    st.sampled_from([*"[]{}=.,#\"'\\\n\r\t ", "'''", '"""', "[[", "]]", "\r\n", "certd"]),
    st.sampled_from([AGREED, WWW, "names", "certificate", "0x", "2026-01-01", "1e5", "true"]),
    st.text(max_size=6),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pieces=st.lists(_PIECES, max_size=20))
def test_no_arrangement_of_signs_is_anything_else(pieces: list[str]) -> None:
    strangers.settings("".join(pieces).encode("utf-8", "surrogatepass"))
