"""``certd export`` and ``certd show --pins``, read by openssl and as a name server reads."""

from __future__ import annotations

import base64
import hashlib
import os
import pty
import stat
import subprocess
from pathlib import Path

import dns.rdata
import dns.zone
import pytest

from certd.formats import FORMATS
from certd.secrets import Secret
from certd.x509 import pair_matches
from tests.site import Site

PASSWORD = "correct horse"
HEAD = "$ORIGIN example.com.\n@ 3600 IN SOA ns hostmaster 1 2 3 4 5\n@ 3600 IN NS ns\n$TTL 3600\n"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two versions of one certificate, by a CA of certd's own, in a sealed store."""
    site = own_ca(tmp_path_factory.mktemp("export")).sealed()
    site.certificate("www", "www.example.com", "example.com", backup_key=True)
    site.renew()
    site.renew("--force", "www")
    (site.folder / "password").write_text(PASSWORD + "\n")
    (site.folder / "password").chmod(0o600)
    return site


def own_ca(folder: Path) -> Site:
    """A site whose certificates are from a CA of certd's own."""
    site = Site(folder, None)
    done = site.certd("ca", "init")
    assert done.returncode == 0, done.stderr
    return site


def openssl(*argv: str | Path, data: bytes | None = None) -> bytes:
    words = ["openssl", *map(str, argv)]
    return subprocess.run(words, input=data, check=True, capture_output=True, timeout=30).stdout


def exported(site: Site, form: str, *words: str) -> bytes:
    file = site.folder / "exported"
    if FORMATS[form].password:
        words = (*words, "--password-file", str(site.folder / "password"))
    done = site.certd("export", "www", "--format", form, "--force", "--output", str(file), *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return file.read_bytes()


def refused(site: Site, *words: str | Path) -> str:
    done = site.certd("export", *map(str, words))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def serial(pem: bytes) -> bytes:
    return openssl("x509", "-noout", "-serial", data=pem)


def pin(public_pem: bytes) -> bytes:
    return hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", data=public_pem)).digest()


def test_every_format_is_read_by_openssl(issued: Site) -> None:
    leaf = exported(issued, "cert")
    public = openssl("x509", "-noout", "-pubkey", data=leaf)
    for form in ("key", "combined", "key-first", "key-der"):
        assert openssl("pkey", "-pubout", data=exported(issued, form)) == public, form
    assert serial(exported(issued, "der")) == serial(leaf)
    assert exported(issued, "fullchain") == leaf + exported(issued, "chain")
    secret = f"file:{issued.folder / 'password'}"
    for form, legacy in (("pkcs12", []), ("pkcs12-legacy", ["-legacy"])):
        text = openssl(
            *("pkcs12", *legacy, "-passin", secret, "-nodes"), data=exported(issued, form)
        )
        assert b"friendlyName: www" in text
        assert serial(text) == serial(leaf)
        assert text.count(b"BEGIN CERTIFICATE") == exported(issued, "fullchain").count(b"BEGIN")
        assert openssl("pkey", "-pubout", data=text) == public
    assert exported(issued, "jks")[:4] == b"\xfe\xed\xfe\xed"


def test_what_is_printed_goes_through_a_pipe_as_it_is(issued: Site) -> None:
    for form in ("fullchain", "key-der"):
        argv = issued.argv("export", "www", "--format", form)
        done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
        assert done.stdout == exported(issued, form)
        assert done.stderr == b""


def test_an_earlier_version(issued: Site) -> None:
    first, second = (exported(issued, "combined", "--version", str(n)) for n in (1, 2))
    assert serial(first) != serial(second)
    assert second == exported(issued, "combined")
    assert pair_matches(first.decode(), Secret(exported(issued, "key", "--version", "1").decode()))
    assert "www has no version 7: it has 1, 2" in refused(issued, "www", "--version", "7")


@pytest.mark.parametrize(("form", "mode"), [("combined", 0o600), ("fullchain", 0o644)])
def test_a_file_with_a_key_is_for_its_owner_only(
    issued: Site, tmp_path: Path, form: str, mode: int
) -> None:
    file = tmp_path / "file"
    before = os.umask(0)
    try:
        done = subprocess.run(
            issued.argv("export", "www", "--format", form, "--output", str(file)),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    finally:
        os.umask(before)
    assert done.stdout == f"{file}: version 2 of www, {FORMATS[form].description}\n"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_bytes() == exported(issued, form)


def test_what_is_there_is_replaced_only_when_told(issued: Site, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o666)
    words = ("www", "--format", "key", "--output", file)
    said = refused(issued, *words)
    assert f"{file} is there already; name another file, or replace it: --force" in said
    assert file.read_text() == "mine"
    done = issued.certd("export", *map(str, words), "--force")
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == exported(issued, "key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_is_no_file_is_never_replaced(issued: Site, tmp_path: Path) -> None:
    folder, link, target = tmp_path / "folder", tmp_path / "link", tmp_path / "target"
    folder.mkdir()
    target.write_text("mine")
    link.symlink_to(target)
    for place in (folder, link):
        said = refused(issued, "www", "--output", place, "--force")
        assert "is no file" in said
    assert target.read_text() == "mine"


def test_a_key_is_not_shown_on_a_terminal(issued: Site) -> None:
    for form, why in (("combined", "a private key"), ("der", "no text")):
        ours, theirs = pty.openpty()
        try:
            done = subprocess.run(
                issued.argv("export", "www", "--format", form),
                stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            os.close(theirs)
            os.close(ours)
        assert done.returncode == 2
        assert f"not shown on a terminal: it is {why}; name a file, or pipe it" in done.stderr


def test_a_file_that_cannot_be_written_leaves_nothing(issued: Site, tmp_path: Path) -> None:
    done = issued.certd("export", "www", "--output", str(tmp_path / "none" / "file"))
    assert done.returncode == 1
    assert "No such file or directory; name a file that can be written" in done.stderr


def test_wrong_words_are_explained(issued: Site, tmp_path: Path) -> None:
    secret = str(issued.folder / "password")
    assert "pkcs12 needs a password" in refused(issued, "www", "--format", "pkcs12")
    said = refused(issued, "www", "--password-file", secret)
    assert "fullchain has no password: only pkcs12, pkcs12-legacy, jks have; leave it out" in said
    said = "no version of 'mail' was ever issued here; `certd status` lists what there is"
    assert said in refused(issued, "mail")
    assert "--force has no use" in refused(issued, "www", "--force")
    assert "'zip' is not one of" in refused(issued, "www", "--format", "zip")
    done = issued.certd(
        *("export", "www", "--format", "jks", "--output", str(tmp_path / "new")),
        *("--password-file", str(tmp_path / "none")),
    )
    assert done.returncode == 1
    assert "was not fetched: No such file or directory" in done.stderr
    assert not (tmp_path / "new").exists()


def test_what_is_not_issued_yet_is_no_wrong_word(issued: Site) -> None:
    """But a state of things, with a way out."""
    issued.certificate("later", "later.example.com")
    done = issued.certd("export", "later")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "certd: later has no certificate yet; `certd renew later` gets it\n"


def test_a_password_that_everybody_can_read_is_warned_of(issued: Site, tmp_path: Path) -> None:
    open_to_all = tmp_path / "password"
    open_to_all.write_text(PASSWORD)
    open_to_all.chmod(0o644)
    done = issued.certd(
        *("export", "www", "--format", "pkcs12", "--output", str(tmp_path / "p12")),
        *("--password-file", str(open_to_all)),
    )
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "everybody may read it; chmod 0600" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_it_works_beside_the_daemon_and_needs_the_key_of_the_seal(
    issued: Site, tmp_path: Path
) -> None:
    site = issued.copy(tmp_path / "copy")
    daemon = site.start("run")
    try:
        assert exported(site, "key") == exported(issued, "key")
    finally:
        daemon.stop()
    (site.folder / "key").unlink()
    done = site.certd("export", "www", "--format", "key")
    assert done.returncode != 0
    assert done.stdout == ""


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    site = own_ca(tmp_path / "site")
    request = site.folder / "www.csr"
    openssl(
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "own.key"),
        *("-subj", "/", "-addext", "subjectAltName=DNS:www.example.com", "-out", request),
    )
    site.tables["certificate.www"] = {
        "names": ["www.example.com"],
        "csr": str(request),
        "ca": ["local"],
    }
    site.write()
    site.renew()
    assert serial(exported(site, "der"))
    done = site.certd("export", "www", "--format", "combined")
    assert done.returncode == 1
    assert "certd has never seen it; choose fullchain, cert, chain or der" in done.stderr


# -- pins ------------------------------------------------------------------------------------


def tlsa(text: str) -> dict[tuple[str, str], set[bytes]]:
    """The TLSA records, as a name server would read the zone file: by owner, and type of match."""
    found: dict[tuple[str, str], set[bytes]] = {}
    zone = dns.zone.from_text(HEAD + text, relativize=False)
    for name, _, data in zone.iterate_rdatas("TLSA"):
        kind = f"{data.usage} {data.selector} {data.mtype}"  # type: ignore[attr-defined]
        found.setdefault((str(name), kind), set()).add(data.cert)  # type: ignore[attr-defined]
    return found


def test_pins_are_those_of_openssl_and_the_records_a_zone_file(issued: Site) -> None:
    text = issued.certd("show", "www", "--pins").stdout
    now = pin(openssl("x509", "-noout", "-pubkey", data=exported(issued, "cert")))
    issuer = pin(openssl("x509", "-noout", "-pubkey", data=exported(issued, "chain")))
    coming = base64.b64decode(issued.status()["www"]["next_spki_sha256"])
    assert len({now, issuer, coming}) == 3
    for one in (now, issuer, coming):
        assert f'pin-sha256="{base64.b64encode(one).decode()}"' in text
    assert tlsa(text) == {
        ("_443._tcp.www.example.com.", "3 1 1"): {now, coming},
        ("_443._tcp.example.com.", "3 1 1"): {now, coming},
    }
    alternative = "\n".join(line[2:] for line in text.splitlines() if "TLSA 2 1 1" in line)
    assert tlsa(alternative) == {
        ("_443._tcp.www.example.com.", "2 1 1"): {issuer},
        ("_443._tcp.example.com.", "2 1 1"): {issuer},
    }


def test_the_announced_key_is_the_one_that_is_used_next(issued: Site, tmp_path: Path) -> None:
    site = issued.copy(tmp_path / "copy")
    announced = base64.b64decode(site.status()["www"]["next_spki_sha256"])
    assert announced in tlsa(site.certd("show", "www", "--pins").stdout).popitem()[1]
    site.renew("--force", "www")
    assert announced == pin(openssl("x509", "-noout", "-pubkey", data=exported(site, "cert")))


def test_there_is_a_record_for_each_port_that_is_verified(tmp_path: Path) -> None:
    site = own_ca(tmp_path / "site")
    site.disk("web", verify=["localhost:8443"], verify_timeout=0.1)
    site.disk("mail", verify=["localhost:25", "[::1]:993"], verify_timeout=0.1)
    names = ("www.example.com", "*.example.com", "192.0.2.1")
    site.certificate("www", *names, targets=["web", "mail"])
    done = site.certd("show", "www", "--pins")
    assert done.returncode == 1
    assert "www has no key yet" in done.stderr
    site.certd("renew")  # nobody serves it, which is no matter here
    text = site.certd("show", "www", "--pins").stdout
    wanted = {(f"_{port}._tcp.www.example.com.", "3 1 1") for port in (25, 993, 8443)}
    assert tlsa(text).keys() == wanted
    assert "; _993._tcp.host.example.com. IN TLSA 3 1 1" in text
    assert "; 192.0.2.1: an address has no TLSA record" in text
    assert "set backup_key for www" in text


def test_both_certificates_of_a_pair_are_in_the_records(tmp_path: Path) -> None:
    site = own_ca(tmp_path / "site")
    site.certificate("www", "www.example.com", key=["ec-p256", "rsa-2048"], reuse_key=True)
    site.renew()
    for name in ("www", "www.rsa"):
        text = site.certd("show", name, "--pins").stdout
        assert len(tlsa(text)["_443._tcp.www.example.com.", "3 1 1"]) == 2
        assert "backup_key" not in text
