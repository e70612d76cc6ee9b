"""Dynamic updates against BIND with its secondary, and against Knot."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from certd_providers import rfc2136
from certd_providers.rfc2136 import ALGORITHMS, RFC2136

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.testing.bind import STRANGER, Bind
from certd.testing.dns import Account, DNSProviderContract
from certd.testing.knot import Knot

ZONE = "example.test"
NAME = f"_acme-challenge.{ZONE}"
WRONG = base64.b64encode(b"another secret altogether").decode()


def _secret(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


def _provider(running: Bind | Knot) -> RFC2136:
    server = running.primary if isinstance(running, Bind) else running.server
    return RFC2136(server, running.key, _secret(running.secret), running.algorithm)


def _account(running: Bind | Knot) -> Account:
    provider = _provider(running)
    denied = dataclasses.replace(provider, secret=_secret(WRONG))
    return Account(provider, ZONE, running.values, denied, (running.secret, WRONG))


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    zones = {ZONE: ["alias CNAME elsewhere"], "other.test": []}
    with Bind(zones, tmp_path_factory.mktemp("bind")) as running:
        yield running


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    with Knot([ZONE], "hmac-sha512") as running:
        yield running


class TestBind(DNSProviderContract):
    @pytest.fixture
    def account(self, bind: Bind) -> Account:
        return _account(bind)


class TestKnot(DNSProviderContract):
    @pytest.fixture
    def account(self, knot: Knot) -> Account:
        return _account(knot)


def test_the_secondary_has_what_was_written(bind: Bind) -> None:
    record = TxtRecord("other.test", "_acme-challenge.other.test", "a value; not a comment", 60)
    for change, wanted in (
        (_provider(bind).add_txt, [record.value]),
        (_provider(bind).remove_txt, []),
    ):
        change(record)
        deadline = time.monotonic() + 30
        while bind.values_of_secondary(record.name) != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("server", ["bind", "knot"])
def test_the_values_of_others_keep_their_ttl(server: str, request: pytest.FixtureRequest) -> None:
    """A server gives the whole set that of what was added last."""
    running: Bind | Knot = request.getfixturevalue(server)
    name, provider = f"_acme-challenge.ttl.{ZONE}", _provider(running)
    theirs, ours = (TxtRecord(ZONE, name, *it) for it in (("of somebody else", 3600), ("ours", 60)))
    provider.add_txt(theirs)
    assert _ttl(running, name) == 3600
    for _ in range(2):
        provider.add_txt(ours)
        assert sorted(running.values(name)) == ["of somebody else", "ours"]
        assert _ttl(running, name) == 3600
    provider.remove_txt(ours)
    assert (running.values(name), _ttl(running, name)) == (["of somebody else"], 3600)
    provider.remove_txt(theirs)
    provider.add_txt(ours)  # alone, it has its own
    assert _ttl(running, name) == 60
    provider.remove_txt(ours)


def _ttl(running: Bind | Knot, name: str) -> int:
    query = dns.message.make_query(name, "TXT")
    port = int(_provider(running).server.rpartition(":")[2])
    answer = dns.query.tcp(query, "127.0.0.1", timeout=5, port=port)
    return answer.answer[0].ttl


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "hmac-sha256"])
def test_a_key_of_every_algorithm(algorithm: str) -> None:
    with Knot([ZONE], algorithm) as running:
        _provider(running).add_txt(TxtRecord(ZONE, NAME, "value", 60))
        assert running.values(NAME) == ["value"]


Change = Callable[[RFC2136], RFC2136]
REFUSED: list[Any] = [
    pytest.param(
        lambda one: dataclasses.replace(one, secret=_secret(WRONG)), "BADSIG", id="another secret"
    ),
    pytest.param(
        lambda one: dataclasses.replace(one, key="nobody"), "BADKEY", id="a key it does not know"
    ),
    pytest.param(
        lambda one: dataclasses.replace(one, algorithm="hmac-sha384"),
        "BADKEY|BADSIG",
        id="another algorithm",
    ),
    pytest.param(
        lambda one: dataclasses.replace(one, key=STRANGER),
        "REFUSED|BADKEY",
        id="a key that may change nothing",
    ),
]


@pytest.mark.parametrize("server", ["bind", "knot"])
@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_refused_key_is_explained(
    server: str, change: Change, said: str, request: pytest.FixtureRequest
) -> None:
    provider = change(_provider(request.getfixturevalue(server)))
    with pytest.raises(ProviderError, match=said) as refused:
        provider.add_txt(TxtRecord(ZONE, NAME, "value", 60))
    assert "secret" in refused.value.next or "update-policy" in refused.value.next
    assert provider.key in refused.value.why
    # A key that is good at other names must not be left alone for this one.
    assert isinstance(refused.value, ProviderDenied) == ("REFUSED" not in refused.value.why)


@pytest.mark.parametrize("server", ["bind", "knot"])
def test_a_zone_of_others_is_no_matter_of_the_key(
    server: str, request: pytest.FixtureRequest
) -> None:
    provider = _provider(request.getfixturevalue(server))
    with pytest.raises(ProviderError, match=r"no primary of the zone nowhere\.test") as refused:
        provider.add_txt(TxtRecord("nowhere.test", "_acme-challenge.nowhere.test", "value", 60))
    assert not isinstance(refused.value, ProviderDenied)


def test_a_secondary_refuses(bind: Bind) -> None:
    provider = dataclasses.replace(_provider(bind), server=bind.secondary)
    with pytest.raises(ProviderError, match="REFUSED"):
        provider.add_txt(TxtRecord(ZONE, NAME, "value", 60))


def test_an_alias_is_told_instead_of_a_record_lost(bind: Bind) -> None:
    record = TxtRecord(ZONE, f"alias.{ZONE}", "value", 60)
    with pytest.raises(ProviderError, match=r"alias \(CNAME\)"):
        _provider(bind).add_txt(record)
    _provider(bind).remove_txt(record)  # which is not there


def test_a_clock_that_is_off(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now - 3600)
    with pytest.raises(ProviderError, match="clock"):
        _provider(bind).add_txt(TxtRecord(ZONE, NAME, "value", 60))


@pytest.mark.parametrize("text", ["no base64!", "c2VjcmV0", 'secret "c2VjcmV0";'])
def test_a_secret_that_is_none(bind: Bind, text: str) -> None:
    provider = dataclasses.replace(_provider(bind), secret=_secret(text))
    with pytest.raises(ProviderError) as refused:
        provider.add_txt(TxtRecord(ZONE, NAME, "value", 60))
    assert text not in str(refused.value)


def test_a_secret_over_several_lines_is_one(bind: Bind) -> None:
    half = len(bind.secret) // 2
    lines = _secret(f"{bind.secret[:half]}\n {bind.secret[half:]}\n")
    dataclasses.replace(_provider(bind), secret=lines).remove_txt(TxtRecord(ZONE, NAME, "no", 60))


# A server that is not well

Reply = Callable[[dns.message.Message], bytes]


@contextlib.contextmanager
def _server(reply: Reply | None) -> Iterator[str]:
    """One that answers each update so; with None it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        length = struct.unpack("!H", connection.recv(2))[0]
                        query = dns.message.from_wire(connection.recv(length), keyring=False)
                        if reply is not None:
                            wire = reply(query)
                            connection.sendall(struct.pack("!H", len(wire)) + wire)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _says(code: dns.rcode.Rcode) -> Reply:
    def reply(query: dns.message.Message) -> bytes:
        answer = dns.message.Message(id=query.id)
        answer.flags = query.flags | dns.flags.QR
        answer.set_rcode(code)
        return answer.to_wire()

    return reply


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        pytest.param(_says(dns.rcode.SERVFAIL), ProviderBusy, "SERVFAIL", id="it failed"),
        pytest.param(_says(dns.rcode.NOERROR), ProviderBusy, "not signed", id="not signed"),
        pytest.param(_says(dns.rcode.NOTIMP), ProviderError, "no updates", id="no updates"),
        pytest.param(_says(dns.rcode.FORMERR), ProviderError, "FORMERR", id="anything else"),
        pytest.param(lambda _: b"what?", ProviderBusy, "no answer", id="no DNS"),
        pytest.param(None, ProviderBusy, "no answer", id="it hangs up"),
    ],
)
def test_what_a_server_says(reply: Reply | None, kind: type[ProviderError], words: str) -> None:
    with _server(reply) as server:
        provider = RFC2136(server, "key", _secret(WRONG))
        with pytest.raises(ProviderError, match=words) as failed:
            provider.add_txt(TxtRecord(ZONE, NAME, "value", 60))
    assert type(failed.value) is kind
    assert WRONG not in str(failed.value)


def test_a_server_that_is_silent_or_not_there(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rfc2136, "ANSWER", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], free_port()):
            provider = RFC2136(f"127.0.0.1:{port}", "key", _secret(WRONG))
            with pytest.raises(ProviderBusy, match=r"[Tt]imed? ?out|refused"):
                provider.remove_txt(TxtRecord(ZONE, NAME, "value", 60))


def test_a_host_name_and_its_ports(bind: Bind) -> None:
    provider = dataclasses.replace(_provider(bind), server=f"localhost:{bind.port}")
    provider.remove_txt(TxtRecord(ZONE, NAME, "not there", 60))


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (
            "server",
            ["ns1.example.com", "192.0.2.1:5353", "[2001:db8::1]:53", "[::1]", "localhost:1"],
            ["", "2001:db8::1", "ns1:0", "ns1:65536", "ns1:dns", "a b", "https://ns1/", "[::1"],
        ),
        ("key", ["certd", "certd.example.com."], ["a..b", "x" * 64]),
        ("algorithm", list(ALGORITHMS), ["hmac-md5", "HMAC-SHA256", "sha256"]),
    ],
)
def test_settings(field: str, good: list[str], bad: list[str]) -> None:
    [setting] = [each for each in dataclasses.fields(RFC2136) if each.name == field]
    for value in good:
        setting.metadata["check"](value)
    for value in bad:
        with pytest.raises(ConfigError):
            setting.metadata["check"](value)
