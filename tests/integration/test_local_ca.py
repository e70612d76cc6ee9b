"""A CA of our own, judged by others: openssl, curl, nginx, and TLS itself."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd import x509
from certd.model import Bundle, Identifier
from certd.store import Store
from certd.testing.nginx import Nginx
from certd.testing.processes import NotInstalled
from tests import signing
from tests.site import Site

NAMES = ("www.example.internal", "*.dev.example.internal", "10.0.0.5")
SECONDS = 10.0  # for a handshake


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A root for example.internal and 10.0.0.0/8, and nothing issued yet."""
    site = Site(tmp_path / "site", None)
    permitted = ("--permit", "example.internal", "--permit", "10.0.0.0/8")
    done = site.certd("ca", "init", *permitted)
    assert done.returncode == 0, done.stderr
    assert site.certd("ca", "root", "-o", str(root_of(site))).returncode == 0
    return site


def root_of(site: Site) -> Path:
    return site.folder / "root.pem"


def openssl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        raise NotInstalled("openssl", "no openssl on PATH", "install it")
    return subprocess.run(
        ["openssl", *map(str, words)], check=False, capture_output=True, text=True
    )


def verify(
    site: Site, leaf: str, chain: str, purpose: str, name: tuple[str, str]
) -> subprocess.CompletedProcess[str]:
    """openssl's word on a leaf; ``name`` is an option of its and what that is to match."""
    for file, pem in (("leaf.pem", leaf), ("chain.pem", chain)):
        (site.folder / file).write_text(pem)
    strict = ("-x509_strict", "-check_ss_sig", "-purpose", purpose)
    files = ("-untrusted", site.folder / "chain.pem", site.folder / "leaf.pem")
    return openssl("verify", *strict, *name, "-CAfile", root_of(site), *files)


def issued(site: Site, name: str) -> Bundle:
    bundle = site.bundle(name)
    assert bundle is not None
    return bundle


@pytest.mark.parametrize("key", ["ec-p256", "ec-p384", "rsa-2048"])
def test_openssl_finds_nothing_to_object_to(site: Site, key: str) -> None:
    site.certificate("www", *NAMES, key=key, usage=["server", "client"])
    site.renew()
    bundle = issued(site, "www")
    for purpose in ("sslserver", "sslclient"):
        for name in (
            ("-verify_hostname", "www.example.internal"),
            ("-verify_hostname", "a.dev.example.internal"),
            ("-verify_ip", "10.0.0.5"),
        ):
            done = verify(site, bundle.leaf_pem, bundle.chain_pem, purpose, name)
            assert done.returncode == 0, done.stderr
    other = ("-verify_hostname", "www.example.com")
    done = verify(site, bundle.leaf_pem, bundle.chain_pem, "sslserver", other)
    assert "ostname mismatch" in done.stderr


def test_an_address_alone_is_enough(site: Site) -> None:
    """Such a leaf has no subject, and so its names are critical."""
    site.certificate("printer", "10.0.0.5")
    site.renew()
    bundle = issued(site, "printer")
    name = ("-verify_ip", "10.0.0.5")
    done = verify(site, bundle.leaf_pem, bundle.chain_pem, "sslserver", name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("usage", "right", "wrong"),
    [("server", "sslserver", "sslclient"), ("client", "sslclient", "sslserver")],
)
def test_a_certificate_is_for_its_usage_only(
    site: Site, usage: str, right: str, wrong: str
) -> None:
    site.certificate("www", NAMES[0], usage=[usage])
    site.renew()
    bundle = issued(site, "www")
    name = ("-verify_hostname", NAMES[0])
    assert verify(site, bundle.leaf_pem, bundle.chain_pem, right, name).returncode == 0
    done = verify(site, bundle.leaf_pem, bundle.chain_pem, wrong, name)
    assert "unsuitable certificate purpose" in done.stderr


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (Identifier("dns", "www.example.com"), "-verify_hostname"),
        (Identifier("ip", "192.0.2.1"), "-verify_ip"),
        (Identifier("ip", "2001:db8::1"), "-verify_ip"),
    ],
)
def test_openssl_refuses_what_the_root_does_not_permit(
    site: Site, name: Identifier, option: str
) -> None:
    """Even if somebody has the intermediate's key, and signs what certd would not."""
    with site.store() as store:
        signer = store.authorities.newest("local", "intermediate")
    assert signer is not None
    csr = x509.csr_der(x509.csr(x509.new_key("ec-p256"), [name]))
    leaf = x509.new_leaf(
        csr, signer.certificate_pem, signer.key_pem, timedelta(days=1), datetime.now(UTC)
    )
    done = verify(site, leaf, signer.certificate_pem, "sslserver", (option, name.value))
    assert done.returncode != 0
    assert "subtree violation" in done.stderr


@pytest.mark.parametrize(
    ("permit", "name"),
    [("10.0.0.0/8", Identifier("dns", "www.example.com")), ("internal", Identifier("ip", "::1"))],
)
def test_a_root_of_one_kind_is_good_for_no_other(
    tmp_path: Path, permit: str, name: Identifier
) -> None:
    site = Site(tmp_path / "site", None)
    assert site.certd("ca", "init", "--permit", permit).returncode == 0
    assert site.certd("ca", "root", "-o", str(root_of(site))).returncode == 0
    option = "-verify_ip" if name.type == "ip" else "-verify_hostname"
    test_openssl_refuses_what_the_root_does_not_permit(site, name, option)


def test_certd_refuses_it_before_it_is_signed(site: Site) -> None:
    site.certificate("www", "www.example.internal", "www.example.com", "192.0.2.1")
    done = site.certd("renew")
    assert done.returncode == 1
    assert (
        "www: FAILED local issues nothing: www.example.com, 192.0.2.1 are not permitted by its "
        "root, which is for example.internal, 10.0.0.0/8; use a name that is"
    ) in done.stdout
    assert "stopped until you act" in site.status()["www"]["renew_reason"]
    # A change of the names is such an act.
    site.certificate("www", "www.example.internal")
    site.renew()


# -- TLS ------------------------------------------------------------------------------------


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """The subject that the server sees of its client; raises what the server or client does."""
    seen: list[str | BaseException] = []
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as connection:
                subject = (connection.getpeercert() or {}).get("subject", ())
                connection.sendall(b"hello")
                seen.append(str(subject))
        except (OSError, ssl.SSLError) as error:
            seen.append(error)

    here.settimeout(SECONDS)
    there.settimeout(SECONDS)
    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as connection:
            assert connection.recv(5) in (b"hello", b"")
    except ssl.SSLError:
        pass  # an alert: the server says why
    finally:
        here.close()
        serving.join(SECONDS)
        there.close()
    if isinstance(seen[0], BaseException):
        raise seen[0]
    return seen[0]


def context(site: Site, name: str, protocol: int) -> ssl.SSLContext:
    """With the pair that this certificate's target holds; both sides trust our root only."""
    found = ssl.SSLContext(protocol)
    found.load_verify_locations(root_of(site))
    folder = site.folder / "web" / name / "current"
    found.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    return found


def test_mutual_tls_with_a_certificate_for_a_client(site: Site) -> None:
    site.disk()
    site.certificate("www", NAMES[0], targets=["web"])
    site.certificate("app", "app.example.internal", targets=["web"], usage=["client"])
    site.renew()
    server = context(site, "www", ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    client = context(site, "app", ssl.PROTOCOL_TLS_CLIENT)
    assert "app.example.internal" in shake_hands(server, client, NAMES[0])
    # A server's certificate is good for no client.
    wrong = context(site, "www", ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLError, match=r"unsuitable certificate purpose|unsupported"):
        shake_hands(server, wrong, NAMES[0])
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(root_of(site))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(server, bare, NAMES[0])


def test_nginx_serves_it_verified_and_curl_is_content(
    site: Site, start_nginx: Callable[[Path, Path], Nginx]
) -> None:
    """The whole way: a renewal is deployed, reloaded, seen at the endpoint; and no port 80."""
    if shutil.which("curl") is None:
        raise NotInstalled("curl", "no curl on PATH", "install it")
    site.disk().certificate("www", NAMES[0], targets=["web"])
    site.renew()
    current = site.folder / "web" / "www" / "current"
    nginx = start_nginx(current / "fullchain.pem", current / "privkey.pem")
    site.disk(reload=nginx.reload_argv, verify=[nginx.endpoint])
    site.renew("www", "--force")
    assert site.status()["www"]["targets"][0]["state"] == "verified"
    url = f"https://{NAMES[0]}:{nginx.port}/"
    where = f"{NAMES[0]}:{nginx.port}:127.0.0.1"
    argv = ["curl", "-sS", "--max-time", "10", "--resolve", where]
    trusting = [*argv, "--cacert", str(root_of(site)), url]
    done = subprocess.run(trusting, check=False, capture_output=True, text=True)
    assert done.stdout == "nginx\n", done.stderr
    done = subprocess.run([*argv, url], check=False, capture_output=True, text=True)
    assert done.returncode == 60, "curl trusts what nobody has told it to"


# -- what becomes of it ---------------------------------------------------------------------


def test_a_pair_of_keys(site: Site) -> None:
    site.certificate("www", NAMES[0], key=["ec-p256", "rsa-2048"]).renew()
    for name, kind in (("www", "ec-p256"), ("www.rsa", "rsa-2048")):
        bundle = issued(site, name)
        assert x509.type_of(bundle.key_pem) == kind
        good = verify(
            site, bundle.leaf_pem, bundle.chain_pem, "sslserver", ("-verify_hostname", NAMES[0])
        )
        assert good.returncode == 0, good.stderr


@pytest.mark.parametrize(
    ("names", "subject", "usage"),
    [
        pytest.param(["DNS:WWW.example.internal"], "/", ["server"], id="as a SAN"),
        pytest.param([], "/CN=www.example.internal", ["server"], id="as the common name only"),
        pytest.param(["DNS:www.example.internal"], "/", ["client"], id="for a client"),
    ],
)
def test_a_signing_request_of_the_operators(
    names: list[str], subject: str, usage: list[str], site: Site
) -> None:
    signing.make(site.folder)
    words = "" if usage == ["server"] else "clientAuth"
    signing.sign(site.folder, *names, subject=subject, usage=words)
    site.certificate("www", NAMES[0], csr="www.csr", usage=usage).renew()
    bundle = issued(site, "www")
    assert bundle.keyless
    assert bundle.certificate.usages == tuple(usage)
    good = verify(
        site, bundle.leaf_pem, bundle.chain_pem, f"ssl{usage[0]}", ("-verify_hostname", NAMES[0])
    )
    assert good.returncode == 0, good.stderr
    assert "not due before" in site.renew().stdout


def test_no_lifetime_but_its_own_where_an_acme_server_comes_first(
    site: Site, tmp_path: Path
) -> None:
    """Then `lifetime` of the certificate is for that server."""
    site.tables["ca.away"] = {
        "directory": "https://127.0.0.1:1/dir",
        "agree_tos": True,
    }
    site.tables["certificate.www"] = {
        "names": [NAMES[0]],
        "ca": ["away", "local"],
        "lifetime": "2d",
        "profile": "shortlived",
    }
    site.write()
    for _ in range(3):
        done = site.certd("renew", "www")
        if done.returncode == 0:
            break
    assert "issued, version 1" in done.stdout
    facts = issued(site, "www").certificate
    assert facts.not_after - facts.not_before > timedelta(days=6)


def test_a_usage_that_was_lacking_is_a_reason_to_renew(site: Site) -> None:
    site.certificate("www", NAMES[0])
    site.renew()
    site.certificate("www", NAMES[0], usage=["client", "server"])
    assert "to be for a TLS client as well" in site.certd("plan").stdout
    assert "renewed, version 2" in site.renew().stdout
    assert issued(site, "www").certificate.usages == ("server", "client")
    assert "not due" in site.renew().stdout
    # Less than there is does not hurry.
    site.certificate("www", NAMES[0])
    assert "not due" in site.renew().stdout


def test_a_local_ca_is_asked_where_an_acme_server_is_not_there(site: Site, tmp_path: Path) -> None:
    nobody = {"directory": "https://127.0.0.1:9/dir", "agree_tos": True}
    site.tables["ca.away"] = nobody
    site.tables["http"] = {"webroot": str(tmp_path)}
    site.certificate("www", NAMES[0], ca=["away", "local"])
    site.renew()
    assert site.status()["www"]["ca"] == "local"


def test_after_the_loss_of_the_database_nothing_is_signed_anew(site: Site) -> None:
    site.disk().certificate("www", NAMES[0], targets=["web"])
    site.renew()
    serial = issued(site, "www").certificate.serial
    shutil.rmtree(site.state)
    assert "taken back in from its targets" in site.renew().stdout
    assert issued(site, "www").certificate.serial == serial
    # The root is gone with it, and only a renewal finds out.
    assert "has no root yet" in site.certd("renew", "www", "--force").stdout


def test_a_leaf_is_not_revoked_but_its_key_is_given_up(site: Site) -> None:
    site.certificate("www", NAMES[0], reuse_key=True).renew()
    done = site.certd("revoke", "www", "--yes")
    assert done.returncode == 1
    assert "FAILED local does not revoke: it is certd's own" in done.stderr
    assert "asks again" not in done.stderr
    assert site.status()["www"]["version"] == 1
    pin = site.status()["www"]["spki_sha256"]
    for _ in range(2):  # killed in between, and then by the next run, which asks first
        at = "revocation: it is kept what is to be revoked"
        words = ("revoke", "www", "--version", "1", "--reason", "keyCompromise", "--yes")
        assert site.certd(*words, CERTD_KILL_AT=at).returncode < 0
        done = site.certd("renew")
        assert done.returncode == 0, done.stderr
    done = site.certd(*words)
    assert done.returncode == 0, done.stderr
    assert "www: version 1: its key is given up; local does not revoke: it is" in done.stdout
    entry = site.status()["www"]
    assert (entry["state"], entry["revocations"]) == ("ok", [])
    assert entry["spki_sha256"] != pin
    assert site.certd("status").returncode == 0


def test_the_store_has_the_keys_and_nothing_else_does(site: Site) -> None:
    site.disk().certificate("www", NAMES[0], targets=["web"])
    done = site.renew("--debug")
    store = Store.look(site.state)
    kept = [store.authorities.newest("local", role) for role in ("root", "intermediate")]
    store.close()
    for one in kept:
        assert one is not None
        secret = one.key_pem.reveal().splitlines()[1]
        assert secret not in repr(one)
        assert secret not in done.stdout + done.stderr
        for path in site.folder.rglob("*"):
            if path.is_file() and path.name != "certd.db":
                assert secret.encode() not in path.read_bytes(), path
