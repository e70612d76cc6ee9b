"""``certd ca``, as its operator uses it: a root made, shown and trusted."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from certd import trust
from certd.testing.processes import NotInstalled
from tests.site import CERTD, Site

NAME = "www.example.internal"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site", None).certificate("www", NAME, targets=["web"]).disk()


def test_from_nothing_to_a_certificate(site: Site) -> None:
    """What a newcomer without a public name does: each message leads to the next step."""
    assert site.certd("check").returncode == 0
    done = site.certd("renew")
    assert done.stdout == "www: FAILED local issues nothing: it has no root yet; `certd ca init`\n"
    assert "stopped until you act" in site.certd("status").stdout
    done = site.certd("ca", "init")
    assert done.returncode == 0
    assert "for every name and address: who trusts it trusts whoever has" in done.stdout
    assert "next: `certd ca trust`" in done.stdout
    assert "issued, version 1" in site.renew().stdout
    assert site.status()["www"]["state"] == "ok"


def test_the_root_is_a_good_file_and_its_facts_are_beside_it(site: Site, tmp_path: Path) -> None:
    done = site.certd("ca", "root")
    assert (done.returncode, done.stdout) == (1, "")
    assert "certd: local has no root yet; `certd ca init` makes it" in done.stderr
    made = site.certd("ca", "init", "--permit", "Example.Internal.", "--label", "ACME Ltd")
    assert "for example.internal, and nothing else" in made.stdout
    done = site.certd("ca", "root")
    der = ssl.PEM_cert_to_DER_cert(done.stdout)
    assert done.stdout.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "CN=ACME Ltd root " in done.stderr
    file = tmp_path / "root.pem"
    for _ in range(2):
        assert site.certd("ca", "root", "-o", str(file)).returncode == 0
    assert ssl.PEM_cert_to_DER_cert(file.read_text()) == der
    file.write_text("mine")
    done = site.certd("ca", "root", "-o", str(file))
    assert done.returncode == 1
    assert "was not written: it is there; choose another name" in done.stderr
    assert file.read_text() == "mine"


def test_a_root_that_is_there_is_replaced_by_the_word_only(site: Site) -> None:
    site.certd("ca", "init", "--permit", "example.com")
    first = site.certd("ca", "root").stdout
    done = site.certd("ca", "init")
    assert done.returncode == 1
    assert "local has a root already" in done.stderr
    assert "--replace makes another beside it" in done.stderr
    assert site.certd("ca", "root").stdout == first
    assert "not permitted" in site.certd("renew").stdout
    assert site.certd("ca", "init", "--replace").returncode == 0
    second = site.certd("ca", "root").stdout
    assert second != first
    assert site.certd("ca", "root", "--all").stdout == second + first
    done = site.certd("ca", "root", "--fingerprint", "0" * 64)
    assert (done.returncode, done.stdout) == (1, "")
    assert "begins so; `certd ca root --all` shows them" in done.stderr
    # What had failed with the other root is tried again without being told to.
    assert "issued, version 1" in site.certd("renew").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("init", "--ca", "lcoal"), "no CA of certd's own is named 'lcoal': there is local, own"),
        (("root", "--ca", "acme"), "acme is an ACME server: it has its own root"),
        (("init", "--permit", "10.0.0.1/8"), "has host bits set"),
        (("init", "--label", ""), "'' is no label"),
        (("init", "--label", "x" * 33), "is no label: it is 1 to 32 characters"),
        (("trust", "--root", "nowhere.pem"), "cannot read nowhere.pem"),
        (("trust", "--root", os.devnull), "/dev/null is no root: found nothing"),
    ],
)
def test_wrong_uses_are_told(site: Site, words: tuple[str, ...], said: str) -> None:
    site.tables["ca.own"] = {"type": "local"}
    site.tables["ca.acme"] = {"directory": "https://ca.example/dir"}
    site.write()
    done = site.certd("ca", *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr


def test_two_cas_of_ones_own_have_a_root_each(site: Site) -> None:
    site.tables["ca.own"] = {"type": "local", "lifetime": 3600}
    site.certificate("app", "app.example.internal", ca=["own"], usage=["client"])
    assert site.certd("ca", "init").returncode == 0
    done = site.certd("renew", "app")
    assert "own issues nothing: it has no root yet; `certd ca init --ca own`" in done.stdout
    assert site.certd("ca", "init", "--ca", "own").returncode == 0
    site.renew()
    roots = {site.certd("ca", "root", "--ca", name).stdout for name in ("local", "own")}
    assert len(roots) == 2
    shown = site.certd("show", "app").stdout
    assert "usage        client" in shown
    assert "issuer       CN=certd own intermediate" in shown


def test_a_dry_run_says_that_there_is_nothing_to_rehearse(site: Site) -> None:
    done = site.certd("renew", "--dry-run")
    assert done.returncode == 0
    assert "www: dry run: nothing to rehearse: local is certd's own CA, and has no" in done.stdout


def test_the_daemon_needs_no_port_where_nobody_asks(
    site: Site, free_port: Callable[[], int]
) -> None:
    """Its responder's port is somebody else's, and stays so."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        site.tables["http"] = {"listen": [f"127.0.0.1:{taken.getsockname()[1]}"]}
        site.tables["ca.local"] = {"lifetime": 60}
        site.write()
        site.certd("ca", "init")
        with site.start("run") as daemon:
            daemon.wait_until((site.folder / "web/www/current").exists, 30)
        assert site.status()["www"]["state"] == "ok"


# -- trust ------------------------------------------------------------------------------------

# In a mount name space of its own, in which the system's trust store is a copy: what
# update-ca-certificates does there is gone with it.
APART = """\
set -eu
for folder in /usr/local/share/ca-certificates /etc/ssl/certs; do
    copy=$1/copy$(echo $folder | tr / -)
    cp -a $folder "$copy"
    mount --bind "$copy" $folder
done
shift
exec "$@"
"""

ASK = """\
import socket, ssl, sys
context = ssl.create_default_context(capath="/etc/ssl/certs")
context.load_verify_locations("/etc/ssl/certs/ca-certificates.crt")
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as plain:
    context.wrap_socket(plain, server_hostname=sys.argv[2]).close()
"""


def test_the_system_trusts_it_and_then_does_not(site: Site, tmp_path: Path) -> None:
    """The real update-ca-certificates; curl and Python ask, by the system's store alone."""
    unshare, curl = shutil.which("unshare"), shutil.which("curl")
    if os.geteuid() != 0 or unshare is None:
        raise NotInstalled("root", "only root has mount name spaces", "run as root")
    if curl is None or shutil.which("update-ca-certificates", path=trust._PATH) is None:
        raise NotInstalled("ca-certificates curl", "one of them is missing", "install both")
    site.certd("ca", "init")
    site.renew()
    current = site.folder / "web/www/current"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(current / "fullchain.pem", current / "privkey.pem")
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(server, context), daemon=True).start()
    port = str(server.getsockname()[1])
    home = tmp_path / "home"
    home.mkdir()
    certd = f"{CERTD} -c {site.path} ca trust"
    resolve = f"{NAME}:{port}:127.0.0.1"
    script = f"""\
set -u
ask() {{
    {sys.executable} -c "$ASK" {port} {NAME} 2>/dev/null; echo "python $?"
    curl -s -o /dev/null --max-time 10 --resolve {resolve} https://{NAME}:{port}/; echo "curl $?"
}}
ask
{certd}; echo "trust $?"
{certd} >/dev/null; echo "again $?"
ask
{certd} --uninstall; echo "uninstall $?"
ask
"""
    apart = [unshare, "-m", "--propagation", "private"]
    before = sorted(path.name for path in Path("/etc/ssl/certs").iterdir())
    done = subprocess.run(
        [*apart, "sh", "-c", APART, "sh", str(tmp_path), "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "ASK": ASK, "HOME": str(home)},
    )
    server.close()
    results = [line for line in done.stdout.splitlines() if line.split()[-1].isdigit()]
    assert results == [
        *("python 1", "curl 60", "trust 0", "again 0"),
        *("python 0", "curl 0", "uninstall 0", "python 1", "curl 60"),
    ], f"{done.stdout}\n{done.stderr}"
    assert "write /usr/local/share/ca-certificates/certd-" in done.stdout
    assert "run /usr/sbin/update-ca-certificates" in done.stdout
    assert f"no browser has a trust store below {home}" in done.stdout
    assert sorted(path.name for path in Path("/etc/ssl/certs").iterdir()) == before


def _serve(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        try:
            plain.settimeout(10)
            with context.wrap_socket(plain, server_side=True) as connection:
                if connection.recv(4096):
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        except OSError:
            pass


def test_browsers_trust_it_and_then_do_not(site: Site, tmp_path: Path) -> None:
    """The real certutil, on the stores of a Chromium and of two profiles of Firefox."""
    certutil = shutil.which("certutil")
    if certutil is None:
        raise NotInstalled("libnss3-tools", "no certutil on PATH", "install it")
    site.certd("ca", "init")
    home = tmp_path / "home"
    folders = [home / ".pki/nssdb", *(home / f".mozilla/firefox/{n}.default" for n in "ab")]
    for folder in folders:
        folder.mkdir(parents=True)
        _run(certutil, "-N", "-d", f"sql:{folder}", "--empty-password")
    (home / ".mozilla/firefox/profiles.ini").write_text("")
    (home / ".mozilla/firefox/Crash Reports").mkdir()  # no profile
    name = site.certd("ca", "root").stderr.split("CN=")[1].split(",")[0]

    dry = site.certd("ca", "trust", "--only", "nss", "--dry-run", HOME=str(home), SUDO_UID="")
    assert dry.stdout.count("would run certutil -A") == 3
    assert not any(name in _run(certutil, "-L", "-d", f"sql:{folder}") for folder in folders)
    for _ in range(2):  # twice is as good as once
        done = site.certd("ca", "trust", "--only", "nss", HOME=str(home), SUDO_UID="")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("run certutil -A") == 3
        assert f"{name} is trusted" in done.stdout
    leaf = tmp_path / "leaf.pem"
    site.renew()
    for folder in folders:
        assert "C,," in _run(certutil, "-L", "-d", f"sql:{folder}").split(name)[1]
        # NSS itself verifies a leaf by it.
        pem = (site.folder / "web/www/current/fullchain.pem").read_text()
        parts = pem.split("-----END CERTIFICATE-----\n")
        for number, part in enumerate(parts[:2]):
            leaf.write_text(f"{part}-----END CERTIFICATE-----\n")
            where = ("-d", f"sql:{folder}", "-n", f"n{number}")
            _run(certutil, "-A", *where, "-t", ",,", "-i", str(leaf))
        assert "valid" in _run(certutil, "-V", "-d", f"sql:{folder}", "-n", "n0", "-u", "V")
    # Replaced meanwhile: it is to be had by its fingerprint, and goes by --root.
    mark = site.certd("ca", "root").stderr.split("SHA-256 ")[1].split()[0]
    site.certd("ca", "init", "--replace")
    old = str(tmp_path / "old.pem")
    words = ("ca", "trust", "--only", "nss", "--uninstall", "--root", old)
    assert site.certd("ca", "root", "--fingerprint", mark[:9].upper(), "-o", old).returncode == 0
    for said in ("is not trusted any more", "was not there, or was put there by something else"):
        done = site.certd(*words, HOME=str(home), SUDO_UID="")
        assert done.returncode == 0, done.stdout
        assert f"{name} {said}" in done.stdout
    assert not any(name in _run(certutil, "-L", "-d", f"sql:{folder}") for folder in folders)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_what_is_missing_or_not_allowed_is_told_and_the_rest_is_done(
    site: Site, tmp_path: Path
) -> None:
    """A broken store: its step fails with words, the others are done, and the status is 1."""
    if shutil.which("certutil") is None:
        raise NotInstalled("libnss3-tools", "no certutil on PATH", "install it")
    site.certd("ca", "init")
    home = tmp_path / "home"
    good, broken = home / ".pki/nssdb", home / ".mozilla/firefox/a"
    for folder in (good, broken):
        folder.mkdir(parents=True)
    _run("certutil", "-N", "-d", f"sql:{good}", "--empty-password")
    (broken / "cert9.db").write_text("no database")
    done = site.certd("ca", "trust", "--only", "nss", HOME=str(home), SUDO_UID="")
    assert done.returncode == 1
    assert "FAILED certutil failed: " in done.stdout
    assert "certd local root" in _run("certutil", "-L", "-d", f"sql:{good}")
    assert "is trusted" not in done.stdout
