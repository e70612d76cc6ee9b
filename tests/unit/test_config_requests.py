"""``csr``: a signing request of the operator's own, read with the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from certd import config as configuration
from tests import signing
from tests.configuring import AGREED, WWW, Write, wrong

pytestmark = pytest.mark.usefixtures("shelf_target")

OWN = f'{AGREED}{WWW}csr = "www.csr"\n'
NAME = "DNS:www.example.com"


def test_what_it_says(write: Write, tmp_path: Path) -> None:
    signing.make(tmp_path, NAME, key="RSA -pkeyopt rsa_keygen_bits:2048")
    config = configuration.load(write(OWN))
    spec = config.certificates["www"]
    assert spec.csr is not None
    assert spec.key_type == "rsa-2048"
    assert spec.wishes == f"csr={spec.csr.spki_sha256}"
    signing.sign(tmp_path, NAME)  # the same key: another file, and nothing to renew
    again = configuration.load(write(OWN))
    assert again.certificates["www"].wishes == spec.wishes
    signing.make(tmp_path, NAME)
    other = configuration.load(write(OWN))
    assert other.certificates["www"].wishes != spec.wishes
    assert other.digest != config.digest  # though the file is the same


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        pytest.param(["DNS:WWW.example.com"], "/", id="in capitals"),
        pytest.param([], "/CN=www.example.com", id="as the common name only"),
        pytest.param([NAME], "/CN=www.example.com", id="as both"),
    ],
)
def test_the_name_in_any_form(names: list[str], subject: str, write: Write, tmp_path: Path) -> None:
    signing.make(tmp_path, NAME)
    signing.sign(tmp_path, *names, subject=subject)
    assert configuration.load(write(OWN)).certificates["www"].csr is not None


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        pytest.param(
            ["DNS:example.com", "IP:192.0.2.1"],
            "",
            "[certificate.www] names: the names are not those of its signing request: in www.csr: "
            "+example.com +192.0.2.1 -www.example.com; write the same names",
            id="other names",
        ),
        pytest.param(
            [NAME, "email:x@example.com"],
            "",
            "cannot be used: it has a name that is neither a DNS name nor an IP address",
            id="a mail address",
        ),
        pytest.param(
            [NAME],
            'key = "rsa-2048"\n',
            '[certificate.www] key: "rsa-2048" is not the type of the key in www.csr: that is '
            "ec-p256; leave it out",
            id="another kind of key",
        ),
        pytest.param(
            [NAME],
            "reuse_key = true\n",
            "[certificate.www] reuse_key: csr and this are both there: certd makes no key",
            id="reuse_key",
        ),
        pytest.param(
            [NAME],
            "backup_key = true\n",
            "[certificate.www] backup_key: csr and this are both there",
            id="backup_key",
        ),
        pytest.param(
            [NAME],
            'targets = ["web"]\n[target.web]\ntype = "shelf"\npath = "/srv/{name}"\n',
            '[certificate.www] targets: "web" cannot take a certificate without its key: this '
            "target of type shelf needs both",
            id="a target that needs the key",
        ),
        pytest.param(
            [NAME],
            'targets = ["web"]\n[target.web]\ntype = "disk"\npath = "/srv/{name}"\n'
            'files = { "site.pem" = "combined" }\n',
            '[certificate.www] targets: "web" cannot take a certificate without its key: this '
            "target of type disk needs both",
            id="a file that is to hold the key",
        ),
    ],
)
def test_what_it_must_agree_with(
    names: list[str], more: str, said: str, write: Write, tmp_path: Path
) -> None:
    signing.make(tmp_path, *names)
    assert said in "\n".join(wrong(write(OWN + more)))


LOCAL = OWN.replace("names", 'ca = ["local"]\nnames')


@pytest.mark.parametrize(
    ("asked", "usage", "said"),
    [
        pytest.param("", ["server"], None, id="nothing is for a server"),
        pytest.param("serverAuth,clientAuth", ["server"], None, id="more than is wanted"),
        pytest.param("clientAuth", ["client"], None, id="a client"),
        pytest.param(
            "",
            ["server", "client"],
            "usage: its signing request is not for a TLS client: www.csr is for server; make",
            id="nothing is for no client",
        ),
        pytest.param(
            "codeSigning",
            ["server"],
            "not for a TLS server: www.csr is for neither server nor client",
            id="neither",
        ),
    ],
)
def test_what_it_is_for(
    asked: str, usage: list[str], said: str | None, write: Write, tmp_path: Path
) -> None:
    signing.make(tmp_path, NAME)
    signing.sign(tmp_path, NAME, usage=asked)
    path = write(f"{LOCAL}usage = {usage}\n")
    if said is None:
        assert configuration.load(path).certificates["www"].usages == tuple(usage)
    else:
        assert said in "\n".join(wrong(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file or directory; correct the path", id="missing"),
        pytest.param(b"", "it is no signing request", id="empty"),
        pytest.param(b"\x30\x03\x02\x01\x05", "it is no signing request", id="other DER"),
        pytest.param(
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "it is no signing request",
            id="other PEM",
        ),
    ],
)
def test_what_is_no_request(content: bytes | None, said: str, write: Write, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "www.csr").write_bytes(content)
    [line] = wrong(write(OWN))
    assert "[certificate.www] csr:" in line
    assert said in line


def test_one_of_a_key_that_no_ca_takes_or_that_was_changed(write: Write, tmp_path: Path) -> None:
    path = signing.make(tmp_path, NAME, key="ED25519")
    assert "its key is ed25519: CAs take ec-p256" in wrong(write(OWN))[0]
    signing.make(tmp_path, NAME)
    pem = path.read_text().splitlines()
    middle = len(pem[-2]) // 2
    swapped = "A" if pem[-2][middle] != "A" else "B"
    pem[-2] = pem[-2][:middle] + swapped + pem[-2][middle + 1 :]
    path.write_text("\n".join(pem) + "\n")
    assert "cannot be used" in wrong(write(OWN))[0]
