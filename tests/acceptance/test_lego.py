"""Side by side with lego at the same servers: the same records on the wire, all of them removed."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from certd.testing.bind import Bind
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.processes import NotInstalled
from certd.testing.proxy import FaultyCA
from tests.site import Site
from tests.zones import Internet, Watched, internet, issued


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with internet(tmp_path_factory.mktemp("net")) as net:
        yield net


@pytest.fixture
def site(net: Internet, tmp_path: Path) -> Site:
    return net.site(tmp_path / "site")


@pytest.fixture
def tag() -> str:
    """What no other test has in its names."""
    return secrets.token_hex(4)


@pytest.fixture
def lego(net: Internet, tmp_path: Path) -> Iterator[Lego]:
    with FaultyCA(net.ca, tmp_path / "proxy") as ca:
        yield Lego(net, ca, tmp_path / "lego")


class Lego:
    """``lego run`` of its operator.

    It cannot ask name servers at another port than 53, so whether a secondary has followed is not
    its business here: it only pauses for its POLLING_INTERVAL.
    """

    def __init__(self, net: Internet, ca: FaultyCA, folder: Path) -> None:
        binary = shutil.which("lego")
        if binary is None:
            raise NotInstalled("lego", "there is no lego in PATH", "install lego")
        self._argv = [binary, "--server", ca.directory, "--accept-tos", "--path", str(folder)]
        self._argv += ["--email", "lego@example.test", "--dns.resolvers", net.resolver]
        self._argv += ["--dns.disable-cp"]
        self._environment = {"LEGO_CA_CERTIFICATES": str(ca.ca_bundle), "NO_PROXY": "127.0.0.1"}
        ca.on("challenge", self._soon)

    def run(self, provider: str, *names: str, **environment: str) -> None:
        argv = [*self._argv, "--dns", provider]
        for name in names:
            argv += ["--domains", name]
        done = subprocess.run(
            [*argv, "run"],
            env={**os.environ, **self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _soon(exchange: Exchange, forward: Forward) -> Reply:
        """Else it looks again after five seconds."""
        return forward().with_header("Retry-After", "1")


class Service:
    """A service of lego's HTTP protocol that keeps the zones of a BIND, and what it was asked."""

    def __init__(self, bind: Bind) -> None:
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kind = self.headers["Content-Type"]
                service.asked.append((self.path, kind, body))
                change(bind, self.path, *name_and_value(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self) -> list[tuple[str, str, list[str], str]]:
        """What was asked since: path, kind of body, its keys, the name; the values are random."""
        asked, self.asked = self.asked, []
        assert all(len(name_and_value(body)[1]) == 43 for _, _, body in asked)
        return sorted(
            (path, kind, sorted(body), body.get("fqdn") or body["domain"])
            for path, kind, body in asked
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def name_and_value(body: Mapping[str, str]) -> tuple[str, str]:
    """As they stand there; in RAW mode the service makes them (RFC 8555 section 8.4)."""
    if "fqdn" in body:
        return body["fqdn"], body["value"]
    assert body["keyAuth"].startswith(f"{body['token']}.")
    digest = hashlib.sha256(body["keyAuth"].encode()).digest()
    value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"_acme-challenge.{body['domain']}.", value


def change(bind: Bind, path: str, name: str, value: str) -> None:
    """Done when the secondary has it too."""
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage("example.test", keyring=key)
    if path == "/present":
        update.add(name, 60, "TXT", value)
    else:
        update.delete(name, "TXT", value)
    answer = dns.query.tcp(update, "127.0.0.1", timeout=5, port=bind.port)
    assert answer.rcode() == dns.rcode.NOERROR
    deadline = time.monotonic() + 30
    while bind.values_of_secondary(name) != bind.values(name):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def service(net: Internet) -> Iterator[Service]:
    service = Service(net.bind)
    yield service
    service.stop()


def records(watched: Watched) -> list[tuple[str, int, str, int]]:
    """Name, TTL, type and length of the value of all that was written, and has been removed."""
    return sorted(
        (one.name, one.ttl, one.kind, len(one.value))
        for changes in watched.written().values()
        for one in changes
    )


def test_dynamic_updates_write_the_same_records(
    lego: Lego, net: Internet, site: Site, tag: str
) -> None:
    names = [f"*.{tag}.example.test", "www.example.test"]
    theirs = Watched(net.bind)
    lego.run(
        "rfc2136",
        *names,
        RFC2136_NAMESERVER=net.bind.primary,
        RFC2136_TSIG_KEY=f"{net.bind.key}.",
        RFC2136_TSIG_ALGORITHM="hmac-sha256.",
        RFC2136_TSIG_SECRET=net.bind.secret,
        RFC2136_TTL="60",
        RFC2136_POLLING_INTERVAL="1",
        RFC2136_SEQUENCE_INTERVAL="0",
    )
    written = records(theirs)
    assert len(written) == 2
    ours = Watched(net.bind)
    site.certificate("www", *names, challenge="dns-01", dns="main")
    site.renew()
    assert issued(site) == set(names)
    assert records(ours) == written


@pytest.mark.parametrize("mode", ["", "RAW"])
def test_a_service_made_for_lego_is_asked_the_same(
    lego: Lego, net: Internet, site: Site, service: Service, tag: str, mode: str
) -> None:
    names = [f"{tag}.example.test", f"*.{tag}.example.test"]
    theirs = Watched(net.bind)
    lego.run(
        "httpreq",
        *names,
        HTTPREQ_ENDPOINT=service.url,
        HTTPREQ_MODE=mode,
        HTTPREQ_POLLING_INTERVAL="0",
    )
    written, asked = records(theirs), service.take()
    assert len(asked) == 4
    ours = Watched(net.bind)
    site.tables["dns.service"] = {
        "provider": "httpreq",
        "url": service.url,
        "mode": mode,
        "settle": 0,
    }
    site.certificate("www", *names, challenge="dns-01", dns="service")
    site.renew()
    assert service.take() == asked
    assert records(ours) == written
