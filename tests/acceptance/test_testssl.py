"""What a real nginx serves after `certd renew`, with testssl.sh as an outside judge of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.testing.nginx import Nginx
from certd.testing.processes import NotInstalled
from certd.testing.tls import mint
from tests.servers import settled
from tests.site import Site

NAME = "www.example.internal"
OFFERED = ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3")
PATIENCE = 120.0  # seconds; it takes five to ten of a processor's time
PROGRAMS = f"{Path(sys.prefix) / 'sslyze' / 'bin'}:{os.environ.get('PATH', os.defpath)}"

Findings = dict[str, str]


class Judge:
    """testssl.sh at work on a server, which it knows by its address and by certd's root alone.

    It asks no name server, and nobody else about revocations (that would be --phone-out).
    """

    def __init__(self, nginx: Nginx, root: Path, *sections: str) -> None:
        program = shutil.which("testssl") or shutil.which("testssl.sh")
        if program is None:
            raise NotInstalled("testssl.sh", "no testssl on PATH", "install it")
        self._findings = nginx.folder / "testssl.json"
        argv = [program, "--quiet", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1"]
        # Its own roots are left out: they are asked for each, one after the other.
        argv += ["--assume-http", "--fast", *sections, "--add-ca", str(root)]
        argv += ["--jsonfile", str(self._findings), f"{NAME}:{nginx.port}"]
        environment = {**os.environ, "CA_BUNDLES_PATH": str(root.parent), "NO_ENGINE": "true"}
        self._child = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def findings(self) -> Findings:
        output, _ = self._child.communicate(timeout=PATIENCE)
        assert self._findings.exists(), output.decode(errors="replace")
        return {one["id"]: one["finding"] for one in json.loads(self._findings.read_text())}

    def stop(self) -> None:
        self._child.kill()
        self._child.communicate()


def offered(findings: Findings) -> list[str]:
    return [name for name in OFFERED if findings[name].startswith("offered")]


def configured(nginx: Nginx, folder: Path, *lines: str) -> None:
    """It is to serve what is in this folder, with these lines besides."""
    nginx.configure(folder / "fullchain.pem", folder / "privkey.pem")
    text = nginx.configuration.read_text()
    more = "".join(f"{line};\n        " for line in lines)
    nginx.configuration.write_text(text.replace("location ", f"{more}location "))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", None).certificate("www", NAME, targets=["web"]).disk()
    assert site.certd("ca", "init").returncode == 0
    (tmp_path / "roots").mkdir()
    assert site.certd("ca", "root", "-o", str(tmp_path / "roots" / "root.pem")).returncode == 0
    return site


@pytest.fixture
def nginx(site: Site, tmp_path: Path) -> Iterator[Nginx]:
    """To it certd has deployed, and deployed again; as Mozilla's "intermediate" has it."""
    minted = mint(tmp_path / "first")
    with Nginx(minted.fullchain, minted.key) as nginx:
        site.disk(verify=[nginx.endpoint])
        commands = {"test": nginx.test_argv, "reload": nginx.reload_argv}
        site.tables["target.web"].update(type="nginx", verify_timeout=10, **commands)
        site.write()
        configured(
            nginx,
            site.folder / "web" / "www" / "current",
            "ssl_protocols TLSv1.2 TLSv1.3",
            "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
            "ssl_ecdh_curve X25519:prime256v1:secp384r1",
        )
        site.renew()
        site.renew("www", "--force")
        bundle = site.bundle("www")
        assert bundle is not None
        assert bundle.version == 2
        assert settled(nginx, bundle.certificate.fingerprint)
        yield nginx


def judged(site: Site, nginx: Nginx, tls: str) -> str:
    """What `certd verify` says is wrong with it; "" if nothing is."""
    site.tables["target.web"]["verify"] = [{"at": nginx.endpoint, "sni": NAME, "tls": tls}]
    site.write()
    done = site.certd("verify", "--json", PATH=PROGRAMS)
    [seen] = json.loads(done.stdout)["endpoints"]
    assert done.returncode == (1 if seen["error"] else 0)
    return seen["error"]["why"] if seen["error"] else ""


def test_testssl_says_what_certd_says(site: Site, nginx: Nginx, tmp_path: Path) -> None:
    """Of the pair, its chain, protocols and ciphers: at the same time, for it takes its own."""
    if shutil.which("sslyze", path=PROGRAMS) is None:
        raise NotInstalled("sslyze", "no sslyze on PATH", "pipx install sslyze")
    judge = Judge(nginx, tmp_path / "roots" / "root.pem", "-S", "-p", "-s")
    try:
        intermediate, modern = judged(site, nginx, "intermediate"), judged(site, nginx, "modern")
        found = judge.findings()
    finally:
        judge.stop()

    bundle = site.bundle("www")
    assert bundle is not None
    assert found["cert_trust"].startswith("Ok via SAN")
    assert found["cert_chain_of_trust"] == "passed."
    assert found["certs_countServer"] == "2"
    assert found["certs_list_ordering_problem"] == "no"
    assert found["cert_subjectAltName"] == NAME
    assert found["cert_serialNumber"].lower() == site.status()["www"]["serial"]
    assert found["cert_fingerprintSHA256"].lower() == bundle.certificate.fingerprint
    ends = datetime.strptime(found["cert_notAfter"], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert abs(ends - bundle.certificate.not_after) < timedelta(minutes=1)

    assert intermediate == ""
    assert offered(found) == ["TLS1_2", "TLS1_3"]
    assert found["cipherlist_AVERAGE"] == "not offered"  # obsolete ones, with CBC
    assert found["cipherlist_STRONG"] == "offered"
    assert "tls_versions: " in modern
    assert "TLSv1.2" in modern
