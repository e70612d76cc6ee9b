"""The webhook target against a real HTTPS server that asks for a client certificate."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from certd_deploy.webhook import Webhook
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.dnsb_http import Lost, Request, Response, serving

from certd.api import ConfigError, NotHere, Secret, SecretReference, TargetBusy, TargetError
from certd.testing.chains import Authority, bundle, pem
from certd.testing.targets import Pair, TargetContract
from certd.testing.tls import mint
from certd.x509 import new_key

SECRET = "correct horse battery staple"
HOOK = "/hook/"


@dataclass
class Receiver:
    """As the documentation asks it of a receiver: signature, time, one effect for one key."""

    held: dict[str, Any] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    posts: int = 0
    first: Callable[[Request], Response | None] = lambda _: None
    last: Callable[[], None] = lambda: None

    def answer(self, request: Request) -> Response:
        text = request.body.decode() if request.method == "POST" else request.target.split("?")[1]
        timestamp = request.headers["certd-timestamp"]
        wanted = hmac.digest(SECRET.encode(), f"{timestamp}.{text}".encode(), "sha256").hex()
        if not hmac.compare_digest(request.headers["certd-signature"], f"v1={wanted}"):
            return Response(401, {"error": "wrong signature"})
        if abs(int(timestamp) - time.time()) > 300 or request.path != HOOK:
            return Response(400, {"error": "an old message, or another path"})
        if request.method == "GET":
            there = self.held.get(request.query["name"])
            return Response(200, {"fingerprint": there and there["fingerprint"]})
        self.posts += 1
        if refused := self.first(request):
            return refused
        given, key = request.json, request.headers["idempotency-key"]
        if key not in self.keys or self.held[given["name"]]["fingerprint"] not in key:
            assert key == f'"{given["fingerprint"]}"'
            self.keys.add(key)
            self.held[given["name"]] = given
        self.last()
        return Response(204)


@dataclass(frozen=True)
class Site:
    url: str
    roots: Path
    client: Path
    receiver: list[Receiver]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("webhook")
    minted, authority, key = mint(folder), Authority.root("clients"), new_key("ec-p256")
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = authority.leaf(key, "certd", not_before=now - day, not_after=now + day, usages=usages)
    (folder / "clients.pem").write_text(pem(authority.certificate))
    (folder / "client.pem").write_text(pem(leaf) + key.reveal())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "clients.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(minted.fullchain, minted.key)
    receiver = [Receiver()]
    with serving(lambda request: receiver[0].answer(request), context) as url:
        yield Site(url, minted.root, folder / "client.pem", receiver)


@pytest.fixture
def receiver(site: Site) -> Receiver:
    site.receiver[0] = Receiver()  # the server asks for it anew each time
    return site.receiver[0]


@pytest.fixture
def target(site: Site, receiver: Receiver) -> Webhook:
    return Webhook(
        url=site.url + HOOK,
        secret=SecretReference("plain", Secret(SECRET)),
        client=SecretReference("file", site.client),
        roots=site.roots,
        look=True,
    )


class TestWebhookContract(TargetContract):
    secrets = (SECRET,)

    @pytest.fixture
    def target(self, target: Webhook, receiver: Receiver) -> Webhook:
        self.receiver = receiver
        return target

    def in_place(self, target: Webhook, name: str) -> Pair | None:
        time.sleep(0.001)
        there = self.receiver.held.get(name)
        return Pair(there["fullchain"], there["key"]) if there else None

    @contextlib.contextmanager
    def out_of_order(self, target: Webhook) -> Iterator[None]:
        """A server that repeats all that it was sent."""
        self.receiver.first = lambda request: Response(400, request.body)
        yield
        self.receiver.first = lambda _: None

    def writes(self, target: Webhook) -> int:
        return self.receiver.posts


def test_the_same_bundle_is_the_same_message_but_for_its_time(
    target: Webhook, receiver: Receiver
) -> None:
    sent = []
    receiver.first = lambda request: sent.append(request)
    wanted = bundle()
    for _ in range(2):
        replace(target, look=False).deploy(wanted)
    assert sent[0].body == sent[1].body
    assert sent[0].headers["content-type"] == "application/json"
    keys = {request.headers["idempotency-key"] for request in sent}
    assert keys == {f'"{wanted.certificate.fingerprint}"'}
    assert receiver.held["www"]["key"] == wanted.key_pem.reveal()
    assert replace(target, look=False).serving("www") is None


def test_the_signature_is_that_of_the_documentation(
    target: Webhook, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    receiver.first = lambda request: sent.append(request)
    target.deploy(bundle())
    signed = sent[0].headers["certd-timestamp"].encode() + b"." + sent[0].body
    wanted = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert sent[0].headers["certd-signature"] == f"v1={wanted}"


def test_another_secret_is_refused_and_what_to_do_is_told(target: Webhook) -> None:
    stranger = replace(target, secret=SecretReference("plain", Secret("guess")))
    with pytest.raises(TargetError, match="wrong signature; give both sides the same") as told:
        replace(stranger, look=False).deploy(bundle())
    assert not isinstance(told.value, TargetBusy)
    with pytest.raises(TargetError, match="wrong signature"):
        stranger.serving("www")


def test_without_the_client_certificate_nobody_listens(target: Webhook, receiver: Receiver) -> None:
    with pytest.raises(TargetError):
        replace(target, client=None).deploy(bundle())
    with pytest.raises(TargetError):
        replace(target, roots=None).deploy(bundle())
    assert receiver.posts == 0


@pytest.mark.parametrize("cut", ["the key", "the certificate", "all"])
def test_a_client_certificate_that_is_none_is_told(
    target: Webhook, site: Site, tmp_path: Path, cut: str
) -> None:
    parts = site.client.read_text().partition("-----BEGIN PRIVATE")
    kept = {"the key": parts[0], "the certificate": "".join(parts[1:]), "all": "nothing"}[cut]
    (tmp_path / "client.pem").write_text(kept)
    unfit = replace(target, client=SecretReference("file", tmp_path / "client.pem"))
    with pytest.raises(TargetError, match=r"client certificate cannot be used.*write the") as told:
        unfit.deploy(bundle())
    assert not isinstance(told.value, TargetBusy)


@pytest.mark.parametrize(
    ("response", "kind", "wait"),
    [
        pytest.param(Response(429, headers={"Retry-After": "7"}), TargetBusy, 7.0, id="throttled"),
        pytest.param(Response(503), TargetBusy, None, id="down"),
        pytest.param(Response(500, {"error": "oh"}), TargetBusy, None, id="a bug there"),
        pytest.param(Response(408), TargetBusy, None, id="slow"),
        pytest.param(Response(403, {"error": "no"}), TargetError, None, id="denied"),
        pytest.param(Response(422, {"error": "no"}), TargetError, None, id="refused"),
        pytest.param(Response(302, headers={"Location": "/"}), TargetError, None, id="moved"),
    ],
)
def test_what_an_answer_means(
    target: Webhook,
    receiver: Receiver,
    response: Response,
    kind: type[TargetError],
    wait: float | None,
) -> None:
    receiver.first = lambda _: response
    with pytest.raises(TargetError) as failed:
        target.deploy(bundle())
    assert type(failed.value) is kind
    assert getattr(failed.value, "retry_after", None) == wait
    assert str(response.status) in failed.value.why
    assert failed.value.next


def test_an_answer_that_is_lost_is_not_sent_for_again(target: Webhook, receiver: Receiver) -> None:
    def lose() -> None:
        raise Lost

    receiver.last = lose
    wanted = bundle()
    with pytest.raises(TargetBusy, match="no answer"):
        target.deploy(wanted)
    target.deploy(wanted)
    assert receiver.posts == 1
    assert receiver.held["www"]["fingerprint"] == wanted.certificate.fingerprint


@pytest.mark.parametrize("body", [{}, [], {"fingerprint": 7}, {"fingerprint": "abc"}, b"<html>"])
def test_a_look_that_says_something_else_is_told(target: Webhook, site: Site, body: Any) -> None:
    with serving(lambda _: Response(200, body)) as url:
        elsewhere = replace(target, url=url)
        with pytest.raises(TargetError, match=r"does not say what is in place.*or write look"):
            elsewhere.serving("www")


def test_a_look_may_be_openssls_own_words(target: Webhook) -> None:
    words = f"sha256 Fingerprint={':'.join(['AB'] * 32)}"
    with serving(lambda _: Response(200, {"fingerprint": words})) as url:
        assert replace(target, url=url).serving("www") == "ab" * 32


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [
        pytest.param("url", "http://deploy.example.com/", ConfigError, id="clear text"),
        pytest.param("url", "https://user:pw@deploy.example.com/", ConfigError, id="a password"),
        pytest.param("url", "deploy.example.com", ConfigError, id="no address"),
        pytest.param("roots", Path("/no/such/file"), NotHere, id="no such file"),
        pytest.param("roots", Path("/dev/null"), ConfigError, id="no certificate"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    setting: str, value: object, kind: type[ConfigError]
) -> None:
    with pytest.raises(kind) as refused:
        Webhook.__dataclass_fields__[setting].metadata["check"](value)
    assert type(refused.value) is kind
    assert refused.value.next
