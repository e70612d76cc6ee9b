"""The contexts of ``certd.live`` by themselves: handshakes in memory, without a CA."""

from __future__ import annotations

import itertools
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certd.live import LiveContext, show
from certd.model import Bundle, KeyType
from certd.secrets import Secret
from certd.testing.chains import DAY, Authority, identifiers, pem
from certd.x509 import facts, new_key

ROOT = Authority.root()
TLS13, TLS12 = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2


def bundle(name: str, *names: str, version: int = 1, key_type: KeyType = "ec-p256") -> Bundle:
    key, now = new_key(key_type), datetime.now(UTC)
    leaf = ROOT.leaf(key, *names, not_before=now - DAY, not_after=now + DAY, usages=())
    assert facts(leaf).identifiers == tuple(sorted(identifiers(*names)))
    return Bundle(name, version, pem(leaf), "", key, facts(leaf))


def client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem(ROOT.certificate))
    return context


def client_with(pair: Bundle) -> ssl.SSLContext:
    """One that has a certificate of its own to show."""
    context = client()
    fd = os.memfd_create("client")
    os.write(fd, (pair.fullchain_pem + pair.key_pem.reveal()).encode())
    context.load_cert_chain(f"/proc/self/fd/{fd}")
    os.close(fd)
    return context


def shake(
    server: ssl.SSLContext,
    host: str | None,
    ours: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection, client first. Raises ssl.SSLError of whichever end failed."""
    ours = ours or client()
    if host is None:
        ours.check_hostname = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = ours.wrap_bio(down, up, server_hostname=host, session=session)
    there = server.wrap_bio(up, down, server_side=True)
    todo = [here, there]
    for _ in range(20):
        for end in list(todo):
            try:
                end.do_handshake()
                todo.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not todo:
            return here, there
    raise AssertionError("no end to the handshake")


def serial(end: ssl.SSLObject) -> str:
    shown = end.getpeercert()
    assert shown
    return str(shown["serialNumber"]).lower()


@pytest.fixture
def context() -> Iterator[LiveContext]:
    before = set(os.listdir("/proc/self/fd"))
    yield LiveContext(["www", "wild", "mail"], TLS13)
    assert set(os.listdir("/proc/self/fd")) <= before, "descriptors are left"


def test_a_new_version_is_for_new_connections_and_the_others_stay(context: LiveContext) -> None:
    old, new = bundle("www", "a.example"), bundle("www", "a.example", version=2)
    context.show(old)
    here, there = shake(context, "a.example")
    context.show(new)
    assert serial(shake(context, "a.example")[0]) == new.certificate.serial
    there.write(b"still here")
    assert serial(here) == old.certificate.serial
    assert there.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        pytest.param("a.example", "www", id="the name itself"),
        pytest.param("A.Example", "www", id="in other letters"),
        pytest.param("b.example", "www", id="the second name of a certificate"),
        pytest.param("any.wild.example", "wild", id="a wildcard"),
        pytest.param("mail.wild.example", "mail", id="a name rather than a wildcard"),
    ],
)
@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_the_name_asked_for_chooses(host: str, name: str, version: ssl.TLSVersion) -> None:
    context = LiveContext(["www", "wild", "mail"], TLS12)
    bundles = {
        "www": bundle("www", "a.example", "b.example"),
        "wild": bundle("wild", "*.wild.example"),
        "mail": bundle("mail", "mail.wild.example"),
    }
    for one in bundles.values():
        context.show(one)
    ours = client()
    ours.maximum_version = version
    here, _ = shake(context, host, ours)
    assert serial(here) == bundles[name].certificate.serial


def test_of_a_pair_each_client_is_shown_what_it_takes() -> None:
    context = LiveContext(["www", "www.rsa", "mail"], TLS12, {"www.rsa": "www"})
    context.show(bundle("mail", "mail.example"))
    pair = {
        "ECDSA": bundle("www", "a.example"),
        "RSA": bundle("www.rsa", "a.example", key_type="rsa-2048"),
    }
    for one in pair.values():
        context.show(one)
    for number in (2, 3):
        for kind, one in pair.items():
            ours = client()  # only of TLS 1.2 can Python's be told to take one kind
            ours.maximum_version = TLS12
            ours.set_ciphers(f"a{kind}")
            assert serial(shake(context, "a.example", ours)[0]) == one.certificate.serial
        pair["RSA"] = bundle("www.rsa", "a.example", version=number, key_type="rsa-2048")
        context.show(pair["RSA"])


def test_what_has_no_key_here_is_not_shown(context: LiveContext) -> None:
    with pytest.raises(ValueError, match="its key not here"):
        context.show(replace(bundle("www", "a.example"), key_pem=Secret("")))


@pytest.mark.parametrize("host", [None, "deep.any.wild.example", "elsewhere.example"])
def test_the_first_is_for_everybody_else(context: LiveContext, host: str | None) -> None:
    first = bundle("www", "a.example")
    context.show(bundle("mail", "mail.example"))
    context.show(bundle("wild", "*.wild.example"))
    context.show(first)
    ours = client()
    ours.check_hostname = False
    here, _ = shake(context, host, ours)
    assert serial(here) == first.certificate.serial


def test_a_name_in_two_certificates_is_for_the_first(context: LiveContext) -> None:
    first, second = bundle("www", "a.example"), bundle("mail", "a.example")
    context.show(second)
    assert serial(shake(context, "a.example")[0]) == second.certificate.serial
    context.show(first)
    assert serial(shake(context, "a.example")[0]) == first.certificate.serial
    context.show(bundle("mail", "a.example", version=2))
    assert serial(shake(context, "a.example")[0]) == first.certificate.serial


def test_without_a_certificate_the_alert_says_that_it_is_not_the_clients_fault(
    context: LiveContext,
) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client().wrap_bio(down, up, server_hostname="a.example")
    there = context.wrap_bio(up, down, server_side=True)
    for end in (here, there, here):
        with pytest.raises(ssl.SSLError) as caught:
            end.do_handshake()
    assert "INTERNAL_ERROR" in str(caught.value)


def test_another_kind_of_key_leaves_nothing_of_the_one_before() -> None:
    context = LiveContext(["www"], TLS12)
    old = bundle("www", "a.example", key_type="rsa-2048")
    new = bundle("www", "a.example", version=2)
    insisting = client()
    insisting.maximum_version = TLS12  # where a client can insist on RSA
    insisting.set_ciphers("aRSA")
    context.show(old)
    assert serial(shake(context, "a.example", insisting)[0]) == old.certificate.serial
    context.show(new)
    assert serial(shake(context, "a.example")[0]) == new.certificate.serial
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        shake(context, "a.example", insisting)


def test_older_versions_of_tls_only_where_they_were_asked_for(context: LiveContext) -> None:
    www = bundle("www", "a.example")
    context.show(www)
    ours = client()
    ours.maximum_version = TLS12
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake(context, "a.example", ours)
    lower = LiveContext(["www"], TLS12)
    lower.show(www)
    assert shake(lower, "a.example", ours)[0].version() == "TLSv1.2"


@pytest.mark.parametrize("set_first", [True, False])
def test_what_the_program_sets_holds_for_every_version(
    context: LiveContext, set_first: bool
) -> None:
    """ALPN and the roots for clients' certificates, which OpenSSL takes from the context
    that a connection is pointed to.
    """

    def settings() -> None:
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pem(ROOT.certificate))

    if set_first:
        settings()
    context.show(bundle("www", "a.example"))
    if not set_first:
        settings()
    for _ in range(2):
        ours = client_with(bundle("me", "me.example"))
        ours.set_alpn_protocols(["http/1.1"])
        _, there = shake(context, "a.example", ours)
        shown = there.getpeercert()
        assert there.selected_alpn_protocol() == "http/1.1"
        assert shown
        assert shown["subjectAltName"] == (("DNS", "me.example"),)
        context.show(bundle("www", "a.example", version=2))
    with pytest.raises(ssl.SSLError, match="DID_NOT_RETURN"):
        shake(context, "a.example")


def test_ciphers_hold_for_every_version() -> None:
    context = LiveContext(["www"], TLS12)
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    context.show(bundle("www", "a.example"))
    ours = client()
    ours.maximum_version = TLS12
    here, _ = shake(context, "a.example", ours)
    assert here.cipher() == ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLSv1.2", 256)


def test_no_handshake_fails_while_versions_change_under_many_threads() -> None:
    """What loading the new pair into the context in use does not give: see decisions.md."""
    context = LiveContext(["www"], TLS13)
    versions = [bundle("www", "a.example", version=number) for number in range(4)]
    context.show(versions[0])
    failed: list[BaseException] = []
    stop = threading.Event()
    shaken = [0]

    def shake_all_the_time() -> None:
        ours = client()
        while not stop.is_set():
            try:
                shake(context, "a.example", ours)
                shaken[0] += 1
            except BaseException as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=shake_all_the_time) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    for shown in itertools.cycle(versions):
        context.show(shown)
        time.sleep(0.001)
        if shaken[0] > 300 or failed or time.monotonic() > deadline:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert shaken[0] > 300


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_client_may_resume_its_session_after_a_renewal(version: ssl.TLSVersion) -> None:
    context = LiveContext(["www"], TLS12)
    context.show(bundle("www", "a.example"))
    ours = client()
    ours.maximum_version = version
    here, there = shake(context, "a.example", ours)
    there.write(b"x")  # with TLS 1.3 the ticket comes before the first byte
    here.read(1)
    session = here.session
    assert session
    assert session.has_ticket
    context.show(bundle("www", "a.example", version=2))
    here, _ = shake(context, "a.example", ours, session)
    assert here.session_reused


def test_the_key_is_written_to_no_file(tmp_path: Path) -> None:
    """Python tells of every file that it opens; OpenSSL opens what it is told, to read."""
    code = """
import os, sys
from tests.unit.test_live import TLS13, LiveContext, bundle
www, opened = bundle("www", "a.example"), []
context = LiveContext(["www"], TLS13)
sys.addaudithook(lambda event, args: event == "open" and opened.append(args))
context.show(www)
written = [path for path, _, flags in opened if flags & (os.O_WRONLY | os.O_RDWR)]
assert len(written) == 1 and type(written[0]) is int, written  # the memfd
"""
    root = Path(__file__).parents[2]
    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert set(tmp_path.iterdir()) == before


def test_what_is_certds_is_refused_with_a_reason(context: LiveContext) -> None:
    with pytest.raises(TypeError, match="comes from certd"):
        context.load_cert_chain("cert.pem", "key.pem")
    with pytest.raises(TypeError, match="SNI"):
        context.sni_callback = lambda *_: None


def test_a_pair_that_is_none_leaves_the_one_before(context: LiveContext) -> None:
    good = bundle("www", "a.example")
    context.show(good)
    other = bundle("www", "a.example", version=2)
    with pytest.raises(ssl.SSLError):
        context.show(Bundle("www", 2, other.leaf_pem, "", new_key("ec-p256"), other.certificate))
    assert serial(shake(context, "a.example")[0]) == good.certificate.serial


def test_what_no_context_can_ever_show_is_told_and_not_tried_again(
    context: LiveContext, caplog: pytest.LogCaptureFixture
) -> None:
    old = bundle("www", "a.example")
    show(old, [context])
    show(replace(bundle("www", "a.example", version=2), key_pem=Secret("")), [context])
    assert "www: version 2 cannot be served from here" in caplog.text
    assert serial(shake(context, "a.example")[0]) == old.certificate.serial


def test_a_context_that_was_carried_over_a_fork_says_once_that_it_follows_nothing() -> None:
    """What forgot it is the parent's thread: nobody else would notice in the child."""
    code = """
import logging, os, sys, ssl
from tests.unit.test_live import bundle, context_of, serial, shake
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
old, new = bundle("www", "a.example"), bundle("www", "a.example", version=2)
context = context_of("www")
context.show(old)
shake(context, "a.example")
parent = os.getpid()
child = os.fork()
if child == 0:
    for _ in range(3):
        assert serial(shake(context, "a.example")[0]) == old.certificate.serial
    context.show(new)  # by a Certd that was started here
    assert serial(shake(context, "a.example")[0]) == new.certificate.serial
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
shake(context, "a.example")
print(parent)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told, parent = done.stdout.splitlines()
    assert told.startswith(f"ERROR the context of www was made in process {parent}, before a fork")


def context_of(*names: str) -> LiveContext:
    return LiveContext(names, TLS13)
