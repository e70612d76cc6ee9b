"""``certd verify`` beside real servers, and `openssl s_client` as an outside judge."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certd.testing.nginx import Nginx
from certd.x509 import new_key
from tests.servers import agreed, settled
from tests.site import Site

NAME = "www.example.internal"
StartNginx = Callable[[Path, Path], Nginx]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A certificate of certd's own CA, in place, which nobody serves."""
    site = Site(tmp_path / "site", None).certificate("www", NAME, targets=["web"]).disk()
    assert site.certd("ca", "init").returncode == 0
    site.renew()
    return site


@pytest.fixture
def nginx(site: Site, start_nginx: StartNginx) -> Nginx:
    folder = site.folder / "web" / "www" / "current"
    return start_nginx(folder / "fullchain.pem", folder / "privkey.pem")


def looks(site: Site, status: int, *words: str) -> list[dict[str, Any]]:
    done = site.certd("verify", "--json", *words)
    assert done.returncode == status, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["format"] == 1
    return list(document["endpoints"])


def trusted(site: Site, nginx: Nginx) -> bool:
    """What `openssl s_client` says that trusts certd's own root and nothing else."""
    if shutil.which("openssl") is None:
        pytest.skip("not installed: openssl")
    root = site.folder / "root.pem"
    if not root.exists():
        assert site.certd("ca", "root", "-o", str(root)).returncode == 0
    argv = ["openssl", "s_client", "-connect", nginx.endpoint, "-servername", NAME]
    argv += ["-verify_hostname", NAME, "-CAfile", str(root), "-verify_return_error"]
    done = subprocess.run(argv, input="", capture_output=True, text=True, timeout=20)
    return done.returncode == 0


def test_what_is_served_is_told(site: Site, nginx: Nginx) -> None:
    site.disk(verify=[nginx.endpoint])
    done = site.certd("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    head, row, *rest = done.stdout.splitlines()
    assert " ".join(head.split()) == "NAME TARGET ENDPOINT ADDRESS SERIAL UNTIL CHAIN TLS OK"
    serial = site.status()["www"]["serial"]
    start = ["www", "web", nginx.endpoint, "127.0.0.1", serial]
    assert row.split()[:5] == start
    assert row.split()[6:] == ["2", "certificates", "TLSv1.2", "yes"]
    assert rest == ["", "1 look: all is as it should be"]
    [seen] = looks(site, 0, "www")
    assert (seen["certificate"], seen["target"], seen["address"]) == ("www", "web", "127.0.0.1")
    assert (seen["serial"], seen["sent"], seen["ok"], seen["error"]) == (serial, 2, True, None)
    assert trusted(site, nginx)


def test_without_endpoints_what_is_in_place_is_told(site: Site) -> None:
    [seen] = looks(site, 0)
    assert (seen["endpoint"], seen["ok"]) == (None, True)
    assert seen["serial"] == site.status()["www"]["serial"]
    assert "in place" in site.certd("verify").stdout
    shutil.rmtree(site.folder / "web")
    [seen] = looks(site, 1)
    assert seen["serial"] is None
    assert seen["error"]["what"] == "web has no usable certificate in place"
    assert seen["error"]["next"] == "find out who else writes there"


def test_another_key_beside_the_certificate_is_told_as_that(site: Site) -> None:
    """Not as a certificate that is missing: it is there to be seen."""
    key = site.folder / "web" / "www" / "current" / "privkey.pem"
    key.write_text(new_key("ec-p256").reveal())
    [seen] = looks(site, 1)
    assert seen["error"]["why"] == "it is missing, or its key or chain does not belong to it"


def test_what_was_not_deployed_yet_is_nobody_elses_doing(site: Site) -> None:
    site.disk("other").certificate("www", NAME, targets=["web", "other"])
    _, seen = looks(site, 1)
    assert seen["error"] == {
        "what": "other has no usable certificate in place",
        "why": "version 1 is not deployed there yet",
        "next": "see `certd status`",
    }
    (site.folder / "other").write_text("in the way")
    assert site.certd("renew", "www").returncode == 1
    (site.folder / "other").unlink()
    _, seen = looks(site, 1)
    assert seen["error"]["why"] == "the deployment of version 1 has failed"
    assert seen["error"]["next"] == "see `certd status`"


def test_a_leaf_without_its_intermediate_is_found_by_both_judges(
    site: Site, start_nginx: StartNginx
) -> None:
    folder = site.folder / "web" / "www" / "current"
    nginx = start_nginx(folder / "cert.pem", folder / "privkey.pem")
    site.disk(verify=[nginx.endpoint])
    done = site.certd("verify")
    assert done.returncode == 1
    assert re.search(r"the intermediate CN=.* is missing", done.stdout)
    assert "fullchain.pem, not cert.pem" in done.stdout
    assert not trusted(site, nginx)
    [seen] = looks(site, 1)
    assert (seen["sent"], seen["ok"]) == (1, False)
    assert seen["chain_error"] == seen["error"]["why"]


def test_the_roots_of_the_file_decide(site: Site, nginx: Nginx) -> None:
    assert trusted(site, nginx)  # which writes root.pem
    site.disk(verify=[{"at": nginx.endpoint, "roots": "root.pem"}])
    assert looks(site, 0)
    other = Site(site.folder / "other", None)
    assert other.certd("ca", "init").returncode == 0
    assert other.certd("ca", "root", "-o", str(site.folder / "other.pem")).returncode == 0
    site.disk(verify=[{"at": nginx.endpoint, "roots": "other.pem"}])
    [seen] = looks(site, 1)
    assert "a client that trusts other.pem refuses it" in seen["error"]["why"]


@pytest.mark.fault(row=48)
def test_a_server_that_says_it_has_reloaded_and_has_not(site: Site, nginx: Nginx) -> None:
    """Seen by the deployment, which goes back, and by a look at any time, which changes nothing."""
    site.disk(verify=[nginx.endpoint], reload=["true"], verify_timeout=0.3)
    first = agreed(nginx.port)
    done = site.certd("renew", "www", "--force")
    assert done.returncode == 1
    assert f"still serves serial {first}" in done.stdout
    before = site.status()["www"]
    assert before["targets"][0]["state"] == "rolled-back"
    place, seen = looks(site, 1)
    assert "has another certificate in place" in place["error"]["what"]
    assert place["error"]["why"].endswith("; version 1 was put back there")
    assert place["error"]["next"] == "see `certd status`"
    assert (seen["serial"], seen["ok"], seen["version"]) == (first, False, 2)
    assert site.status()["www"] == before, "a look changes nothing"
    site.disk(verify=[nginx.endpoint], reload=list(nginx.reload_argv))
    site.renew("www")
    renewed = site.bundle("www")
    assert renewed is not None
    # nginx's old workers answer for a moment after a reload.
    assert settled(nginx, renewed.certificate.fingerprint)
    [seen] = looks(site, 0)
    assert seen["serial"] == site.status()["www"]["serial"] != first


def test_a_server_that_is_down_is_told(site: Site, nginx: Nginx) -> None:
    site.disk(verify=[nginx.endpoint])
    nginx.halt()
    [seen] = looks(site, 1)
    assert "connection was refused" in seen["error"]["why"]
    assert (seen["serial"], seen["tls"]) == (None, None)


def test_it_is_run_beside_a_daemon_and_needs_no_key(site: Site, nginx: Nginx) -> None:
    site.disk(verify=[nginx.endpoint]).sealed()
    with site.start("run") as daemon:
        daemon.wait_until(
            lambda: "ready" in daemon.output() or site.certd("status").returncode == 0
        )
        (site.folder / "key").rename(site.folder / "elsewhere")
        assert looks(site, 0)[0]["ok"]


def test_what_there_is_not_is_told(site: Site) -> None:
    done = site.certd("verify", "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no certificate is named nothing: configured: www" in done.stderr
    site.certificate("new", "new.example.internal", targets=["web"])
    assert "new at web: there is no certificate yet; `certd renew new`" in (
        site.certd("verify", "new").stdout
    )
    [seen] = looks(site, 1, "new")
    assert (seen["version"], seen["ok"]) == (None, False)
    site.certificate("new", "new.example.internal")
    assert looks(site, 0, "new") == []
    assert site.certd("verify", "--what").returncode == 2


def test_help_says_what_it_does(site: Site) -> None:
    done = site.certd("verify", "--help")
    assert done.returncode == 0
    assert "Nothing is changed" in done.stdout
    assert "--json" in done.stdout
