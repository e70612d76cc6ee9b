"""Servers that never end what they say: each way to an API leaves them in time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from certd_deploy.kubernetes import Kubernetes
from certd_providers import rest, timely
from certd_providers.azureaccount import AzureAccount
from certd_providers.googleaccount import GoogleAccount
from certd_providers.lexicon_library import _Session
from certd_providers.route53 import Route53

from certd.api import ProviderBusy, TargetBusy
from certd.references import reference
from tests.fake_google_account import Doorman, Forms

PAUSE = 0.02  # seconds between two of its words
LONG = 60.0  # seconds after which a server ends by itself, so that a test does too
SOON = 30.0  # what is asked may import its library first
OK = b"HTTP/1.1 200 OK\r\n"

ENDLESS = [
    pytest.param(b"", b"x", id="status"),
    pytest.param(OK + b"X-Long: ", b"x", id="a header"),
    pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="to be continued"),
    pytest.param(OK + b"Content-Length: 50000\r\n\r\n", b" ", id="body"),
    pytest.param(OK + b"\r\n", b" ", id="a body without a length"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"),
    pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n", id="trailers"),
]


@contextlib.contextmanager
def endless(begin: bytes, again: bytes, pause: float = PAUSE) -> Iterator[str]:
    """The address of a server that says this, and then that again and again."""
    over, asked = threading.Event(), threading.Event()

    def speak(connection: socket.socket) -> None:
        until = time.monotonic() + LONG
        with connection, contextlib.suppress(OSError):
            connection.settimeout(LONG)
            connection.recv(65536)
            asked.set()
            connection.sendall(begin)
            while not over.wait(pause) and time.monotonic() < until:
                connection.sendall(again)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                threading.Thread(target=speak, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            assert asked.is_set()
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)


class _Google(GoogleAccount):
    credential = "an account"
    service = "Google"
    access = Doorman.scope


class _Azure(AzureAccount):
    credential = "an account"


def by_requests(url: str) -> None:
    with rest.API("Vendor", url) as api:
        api.get("/zones")


def by_boto3(url: str) -> None:
    key = reference("hush", Path("/"))
    Route53(access_key_id="anybody", secret_access_key=key, url=url).zones()


def by_boto3_for_a_role(url: str) -> None:
    key, role = reference("hush", Path("/")), "arn:aws:iam::123456789012:role/dns"
    one = Route53(access_key_id="anybody", secret_access_key=key, url=url)
    dataclasses.replace(one, role_arn=role).zones()


def by_googles_library(url: str) -> None:
    google = Doorman(Forms("dns.v1", {}))
    google.url = url
    key = google.account("certd@example")
    with _Google(service_account=reference(key, Path("/"))).asking(url):
        pass


def by_azures_library(url: str) -> None:
    from azure.core import PipelineClient
    from azure.core.rest import HttpRequest

    def make(credential: Any, **how: Any) -> Any:
        return PipelineClient(url, **how)

    with _Azure().connected(make) as client:
        client.send_request(HttpRequest("GET", url))


def _machine(credential: Any, **_: object) -> contextlib.nullcontext[Any]:
    return contextlib.nullcontext(credential)


def by_azures_library_for_a_token(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDENTITY_ENDPOINT", url)
        patch.setenv("IDENTITY_HEADER", "the machine")
        with _Azure().connected(_machine) as made:
            made.enter_result.get_token("https://vault.azure.net/.default")


def by_kubernetes(url: str) -> None:
    known: dict[str, Any] = {"clusters": [{"name": "one", "cluster": {"server": url}}]}
    context = {"cluster": "one", "user": "certd"}
    known |= {"users": [{"name": "certd", "user": {"token": "hush"}}]}
    known |= {"contexts": [{"name": "one", "context": context}], "current-context": "one"}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(known, file)
        file.flush()
        target = Kubernetes(namespace="web", secret="www", kubeconfig=Path(file.name))
        try:
            target.serving("www")
        except TargetBusy as error:
            raise ProviderBusy(error.what) from None


def by_lexicon(url: str) -> None:
    with _Session() as session:
        try:
            session.get(url)
        except requests.RequestException as error:
            raise ProviderBusy(type(error).__name__) from None


WAYS = [
    by_requests,
    by_boto3,
    by_boto3_for_a_role,
    by_googles_library,
    by_azures_library,
    by_azures_library_for_a_token,
    by_kubernetes,
    by_lexicon,
]


def test_what_others_ask_in_this_process_stays_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """certd is a library too: a program may fetch more, and for longer, than certd would."""
    import boto3

    monkeypatch.setattr(timely, "LARGEST", 100)
    answer = OK + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000
    with endless(answer, b"") as url:
        with pytest.raises(ProviderBusy):
            by_boto3(url)
        key = {"aws_access_key_id": "anybody", "aws_secret_access_key": "hush"}
        s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=url, **key)
        assert len(s3.get_object(Bucket="b", Key="k")["Body"].read()) == 1000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextlib.contextmanager
def left_soon() -> Iterator[None]:
    begun = time.monotonic()
    with pytest.raises(ProviderBusy):
        yield
    assert time.monotonic() - begun < SOON


@pytest.mark.parametrize(("begin", "again"), ENDLESS)
@pytest.mark.parametrize("ask", WAYS)
def test_an_answer_that_drips_is_left_in_time(
    ask: Callable[[str], None], begin: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timely, "WHOLE", 0.1)
    with endless(begin, again) as url, left_soon():
        ask(url)


@pytest.mark.parametrize("ask", WAYS)
def test_an_answer_has_a_size(ask: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timely, "LARGEST", 1 << 18)
    with endless(OK + b"\r\n", b" " * (1 << 14), pause=0.001) as url, left_soon():
        ask(url)


@pytest.mark.parametrize("ask", [by_requests, by_boto3])
def test_a_proxy_that_drips_is_left_in_time(
    ask: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timely, "WHOLE", 0.1)
    with endless(OK + b"X-Long: ", b"x") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.delenv("https_proxy", raising=False)
        with left_soon():
            ask("https://192.0.2.1")
