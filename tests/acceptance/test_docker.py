"""nginx in a container: certd copies files in there, tests, and signals it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certd.testing.docker import Container, Docker
from certd.testing.nginx import Nginx, configuration
from certd.testing.pebble import Pebble
from tests.servers import agreed
from tests.site import Site

CONFIGURATION = "/tmp/nginx.conf"
# As an image does it whose certificates come from outside: it waits for the first.
STARTS = f"until [ -e /etc/ssl/www/current ]; do sleep 0.02; done; exec nginx -c {CONFIGURATION}"


class Contained:
    """A site whose certificate is served by nginx in a container; ``port`` is the machine's."""

    def __init__(self, site: Site, engine: Docker, port: int) -> None:
        self.site, self.engine, self.port = site, engine, port
        site.certificate("www", "www.example.com", targets=["web"])
        self.container = self.start()
        self.set()

    def start(self) -> Container:
        """Anew, as after an update of its image."""
        current = Path("/etc/ssl/www/current")
        text = configuration(
            Path("/tmp"),
            self.port,
            current / "fullchain.pem",
            current / "privkey.pem",
        )
        container = self.engine.run("web", ["sh", "-c", STARTS])
        container.at(CONFIGURATION).write_text(text)
        return container

    def set(self, **settings: Any) -> None:
        self.site.tables["target.web"] = {
            "type": "docker",
            "container": "web",
            "socket": str(self.engine.socket),
            "path": "/etc/ssl/{name}",
            "test": ["nginx", "-t", "-c", CONFIGURATION],
            "signal": "HUP",
            "verify": [f"127.0.0.1:{self.port}"],
            **settings,
        }
        self.site.write()

    def renew(self, *words: str, status: int = 0) -> str:
        done = self.site.certd("renew", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    @property
    def served(self) -> str:
        return agreed(self.port)

    @property
    def newest(self) -> str:
        bundle = self.site.bundle("www")
        assert bundle is not None
        return bundle.certificate.serial

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.site.status()["www"]["targets"][0])


@pytest.fixture(scope="module")
def engine() -> Iterator[Docker]:
    Nginx.find()
    with Docker() as running:
        yield running


@pytest.fixture
def contained(
    engine: Docker, pebble: Pebble, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Contained]:
    yield Contained(Site(tmp_path / "site", pebble), engine, free_port())
    engine.clear()


def test_each_version_is_served_from_the_container(contained: Contained) -> None:
    contained.renew()
    assert contained.served == contained.newest
    assert (contained.target["state"], contained.target["serving"]) == ("verified", 1)
    first = contained.served
    contained.renew("www", "--force")
    assert contained.served == contained.newest != first


def test_one_made_anew_gets_its_certificate_again(contained: Contained) -> None:
    contained.renew()
    first = contained.newest
    contained.container = contained.start()
    assert "www: deployed, version 1" in contained.renew("www")
    assert contained.served == contained.newest == first, "nothing was issued for it"


@pytest.mark.fault(row=47)
def test_what_its_test_refuses_is_not_taken_up(contained: Contained) -> None:
    contained.renew()
    first, text = contained.served, contained.container.at(CONFIGURATION)
    whole = text.read_text()
    text.write_text(whole + "\nno such directive;\n")
    said = contained.renew("www", "--force", status=1)
    assert "the test in web refuses it" in said
    assert 'unknown directive \\"no\\"' in said or 'unknown directive "no"' in said
    assert contained.served == first != contained.newest
    text.write_text(whole)
    contained.renew("www")
    assert contained.served == contained.newest


@pytest.mark.fault(row=48)
def test_a_signal_that_is_not_heard_is_found_out(contained: Contained) -> None:
    contained.renew()
    first = contained.served
    contained.set(signal="CONT", verify_timeout=1.0)
    said = contained.renew("www", "--force", status=1)
    assert f"still serves serial {first}" in said
    target = contained.target
    assert (target["state"], target["serving"]) == ("rolled-back", 1)
    contained.set()
    contained.renew("www")
    assert contained.served == contained.newest != first
