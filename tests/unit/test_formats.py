"""A bundle in each format: read back by openssl, keytool and the standard library."""

from __future__ import annotations

import dataclasses
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from certd import keystores
from certd.api import FORMATS, Bundle, ConfigError, Secret, TargetError, is_rendered, render
from certd.testing.chains import Authority, bundle, pem
from certd.x509 import facts, new_key, pair_matches

PASSWORD = Secret("correct horse")
LOCKED = [name for name, format in FORMATS.items() if format.password]
PLAIN = [name for name in FORMATS if name not in LOCKED]


def keyless(one: Bundle) -> Bundle:
    return dataclasses.replace(one, key_pem=Secret(""))


def password_of(format: str) -> Secret | None:
    return PASSWORD if FORMATS[format].password else None


def openssl(*argv: str | Path) -> str:
    return subprocess.run(
        ["openssl", *map(str, argv)], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def test_pem_has_its_parts_in_the_order_of_the_format() -> None:
    one = bundle()
    leaf, chain, key = one.leaf_pem, one.chain_pem, one.key_pem.reveal()
    assert {name: render(one, name).decode() for name in PLAIN if not FORMATS[name].binary} == {
        "fullchain": leaf + chain,
        "cert": leaf,
        "chain": chain,
        "key": key,
        "combined": leaf + chain + key,
        "key-first": key + leaf + chain,
    }


def test_pem_has_no_blank_lines() -> None:
    one = bundle()
    spaced = dataclasses.replace(one, leaf_pem="\n" + one.leaf_pem + "\n \n")
    assert render(spaced, "combined") == render(one, "combined")


def test_der_is_what_openssl_reads(tmp_path: Path) -> None:
    one = bundle()
    leaf, key = tmp_path / "leaf", tmp_path / "key"
    leaf.write_bytes(render(one, "der"))
    key.write_bytes(render(one, "key-der"))
    assert openssl("x509", "-inform", "DER", "-in", leaf) == one.leaf_pem
    assert openssl("pkey", "-inform", "DER", "-in", key) == one.key_pem.reveal()


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-2048"])
@pytest.mark.parametrize("format", ["pkcs12", "pkcs12-legacy"])
def test_pkcs12_is_what_openssl_reads(tmp_path: Path, format: str, kind: str) -> None:
    root = Authority.root()
    upper = root.authority("Upper")
    lower = upper.authority("Lower")
    key = new_key(kind)  # type: ignore[arg-type]
    leaf = lower.leaf(key, "www.example.com")
    chain = pem(lower.certificate, upper.certificate)
    one = Bundle("www", 1, pem(leaf), chain, key, facts(leaf))
    file, secret = tmp_path / "p12", tmp_path / "password"
    file.write_bytes(render(one, format, PASSWORD))
    secret.write_text(PASSWORD.reveal())
    legacy: list[str | Path] = ["-legacy"] if format == "pkcs12-legacy" else []
    read: list[str | Path] = ["pkcs12", *legacy, "-in", file, "-passin", f"file:{secret}", "-nodes"]
    text = openssl(*read)
    assert "friendlyName: www" in text
    begin = "-----BEGIN CERTIFICATE-----"
    shown = [begin + part.partition("-----END")[0] for part in text.split(begin)[1:]]
    wanted = [begin + part.partition("-----END")[0] for part in one.fullchain_pem.split(begin)[1:]]
    assert shown == wanted
    assert pair_matches(one.leaf_pem, Secret(openssl(*read, "-nocerts")))
    about = subprocess.run(
        ["openssl", *map(str, read), "-info", "-noout"], capture_output=True, text=True, check=True
    ).stderr
    for word in ("MAC: sha1", "3-KeyTripleDES") if legacy else ("MAC: sha256", "AES-256"):
        assert word in about


@pytest.mark.skipif(shutil.which("keytool") is None, reason="there is no Java")
@pytest.mark.parametrize("format", LOCKED)
def test_java_reads_key_stores(tmp_path: Path, format: str) -> None:
    file, secret = tmp_path / "store", tmp_path / "password"
    one = bundle("WWW")
    file.write_bytes(render(one, format, PASSWORD))
    secret.write_text(PASSWORD.reveal())
    said = subprocess.run(
        ["keytool", "-list", "-rfc", "-keystore", file, "-storepass:file", secret, "-alias", "www"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    assert "Entry type: PrivateKeyEntry" in said
    assert "Certificate chain length: 2" in said
    first = said.replace("\r", "")[said.index("-----BEGIN") :]
    assert ssl.PEM_cert_to_DER_cert(first.partition("-----END CERTIFICATE-----")[0]
        + "-----END CERTIFICATE-----") == ssl.PEM_cert_to_DER_cert(one.leaf_pem)  # fmt: skip


@pytest.mark.skipif(shutil.which("keytool") is None, reason="there is no Java")
def test_java_gets_the_key_out_of_a_java_key_store(tmp_path: Path) -> None:
    store, other, secret = tmp_path / "jks", tmp_path / "p12", tmp_path / "password"
    one = bundle()
    store.write_bytes(render(one, "jks", PASSWORD))
    secret.write_text(PASSWORD.reveal())
    subprocess.run(
        [
            *("keytool", "-importkeystore", "-srckeystore", store, "-srcstorepass:file", secret),
            *("-destkeystore", other, "-deststoretype", "PKCS12", "-deststorepass:file", secret),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    key = openssl("pkcs12", "-in", other, "-passin", f"file:{secret}", "-nodes", "-nocerts")
    assert pair_matches(one.leaf_pem, Secret(key))


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_rendered_is_known_again(format: str) -> None:
    one, password = bundle(), password_of(format)
    data = render(one, format, password)
    assert is_rendered(data, one, format, password)
    assert is_rendered(render(one, format, password), one, format, password)
    assert not is_rendered(data, bundle(), format, password)
    longer = [data + b"\n"] if format != "jks" else []  # what is after one is no part of it
    for damaged in (b"", data[:-1], *longer, data[1:], b"\x30\x80"):
        assert not is_rendered(damaged, one, format, password)


@pytest.mark.parametrize("format", LOCKED)
def test_another_password_name_or_encryption_is_another_file(format: str) -> None:
    one = bundle()
    data = render(one, format, PASSWORD)
    assert data != render(one, format, PASSWORD), "salts are drawn anew"
    assert not is_rendered(data, one, format, Secret("another one"))
    assert not is_rendered(data, dataclasses.replace(one, name="mail"), format, PASSWORD)
    for other in LOCKED:
        assert is_rendered(data, one, other, PASSWORD) == (other == format)


def test_a_name_with_capitals_is_known_again_in_jks() -> None:
    one = bundle("WWW")
    assert is_rendered(render(one, "jks", PASSWORD), one, "jks", PASSWORD)


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_key_only_what_has_none_can_be_had(format: str) -> None:
    one = keyless(bundle())
    if not FORMATS[format].key:
        assert render(one, format) == render(bundle_like(one), format)
        return
    with pytest.raises(TargetError, match="the private key is where its signing request"):
        render(one, format, password_of(format))
    with pytest.raises(TargetError, match="the private key is where its signing request"):
        is_rendered(b"", one, format, password_of(format))


def bundle_like(one: Bundle) -> Bundle:
    return dataclasses.replace(one, key_pem=new_key("ec-p256"))


@pytest.mark.parametrize("format", LOCKED)
@pytest.mark.parametrize(
    ("password", "why"),
    [(None, "needs a password"), (Secret("pässword"), "ASCII"), (Secret("a\tb2345"), "ASCII")],
)
def test_passwords_that_programs_differ_on_are_refused(
    format: str, password: Secret | None, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        render(bundle(), format, password)
    assert password is None or password.reveal() not in str(raised.value)


def test_jks_takes_no_short_password() -> None:
    with pytest.raises(ConfigError, match="less than 6"):
        render(bundle(), "jks", Secret("12345"))


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean pkcs12"):
        render(bundle(), "pkcs-12")


def test_without_its_library_jks_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(keystores.importlib, "import_module", missing)  # type: ignore[attr-defined]
    with pytest.raises(TargetError, match=r"pip install 'certd\[jks\]'"):
        render(bundle(), "jks", PASSWORD)


def test_no_key_is_in_a_repr() -> None:
    content = keystores.Content("www", b"the key", (b"leaf",))
    assert "the key" not in repr(content)
