"""Is a chain as it was sent one that clients can do with? Judged beside `openssl verify`."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certd.testing.chains import NOW, Authority, pem
from certd.verify import lacking, unpinned, untrusted
from certd.x509 import new_key

ROOT, OTHER = Authority.root("Root X"), Authority.root("Root Y")
UPPER = ROOT.authority("Upper 1")
LOWER = UPPER.authority("Lower 1")
AGAIN = OTHER.cross_sign(UPPER)  # another way from Lower 1 on
LEAF = LOWER.leaf(new_key("ec-p256"), "www.example.com")
STRANGER = ROOT.authority("Stranger").certificate
DEPLOYED = pem(LOWER.certificate, UPPER.certificate)


def sent(*certificates: pyca.Certificate) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in certificates]


def pin(certificate: pyca.Certificate) -> str:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


WHOLE = [LEAF, LOWER.certificate, UPPER.certificate]


@pytest.mark.parametrize(
    ("certificates", "missing"),
    [
        pytest.param(WHOLE, "", id="as deployed"),
        pytest.param([*WHOLE, ROOT.certificate], "", id="with its root"),
        pytest.param([LEAF, UPPER.certificate, LOWER.certificate], "", id="in another order"),
        pytest.param([*WHOLE, STRANGER], "", id="with a stranger"),
        pytest.param([LEAF], "CN=Lower 1 and CN=Upper 1", id="the leaf alone"),
        pytest.param([LEAF, LOWER.certificate], "CN=Upper 1", id="cut short"),
        pytest.param([LEAF, UPPER.certificate], "CN=Lower 1", id="a gap"),
        pytest.param([LEAF, STRANGER], "CN=Lower 1 and CN=Upper 1", id="another's"),
        pytest.param(
            [LEAF, LOWER.certificate, AGAIN, UPPER.certificate], "", id="to both its roots"
        ),
        pytest.param([], "CN=Lower 1 and CN=Upper 1", id="nothing"),
    ],
)
def test_missing_intermediates_are_told_by_name(
    certificates: list[pyca.Certificate], missing: str
) -> None:
    found = lacking(sent(*certificates), DEPLOYED)
    assert found == (f"the intermediate {missing} is missing" if missing else "")


def test_a_chain_to_another_root_is_told() -> None:
    found = lacking(sent(LEAF, LOWER.certificate, AGAIN), DEPLOYED)
    assert found == "it leads to CN=Root Y instead of CN=Root X"


def test_a_chain_that_goes_on_where_the_deployed_one_ends_is_as_good() -> None:
    """The deployed chain ends below a root; the server was given the cross-signed one instead."""
    crossed = OTHER.cross_sign(ROOT)
    assert lacking(sent(*WHOLE, crossed), DEPLOYED) == ""


def test_a_leaf_of_the_root_itself_needs_no_intermediate() -> None:
    leaf = ROOT.leaf(new_key("ec-p256"), "www.example.com")
    assert lacking(sent(leaf), "") == ""


def test_what_cannot_be_read_is_not_there() -> None:
    assert "Lower 1" in lacking([*sent(LEAF), b"\x30\x00", b""], DEPLOYED)
    assert "Lower 1" in lacking([b"nonsense", *sent(LOWER.certificate)], DEPLOYED)
    assert untrusted([b"nonsense"], pem(ROOT.certificate).encode(), NOW)


TRUST = [
    pytest.param(WHOLE, ROOT, NOW, True, id="whole"),
    pytest.param([LEAF, LOWER.certificate], ROOT, NOW, False, id="an intermediate is missing"),
    pytest.param([LEAF], LOWER, NOW, True, id="an intermediate that is trusted itself"),
    pytest.param(WHOLE, OTHER, NOW, False, id="another root"),
    pytest.param([LEAF, LOWER.certificate, AGAIN], OTHER, NOW, True, id="by the other way"),
    pytest.param(WHOLE, ROOT, NOW + timedelta(days=91), False, id="the leaf has expired"),
]


@pytest.mark.parametrize(("certificates", "root", "now", "good"), TRUST)
def test_the_roots_decide_and_openssl_agrees(
    certificates: list[pyca.Certificate],
    root: Authority,
    now: datetime,
    good: bool,
    tmp_path: Path,
) -> None:
    roots = pem(root.certificate)
    why = untrusted(sent(*certificates), roots.encode(), now)
    assert (why == "") is good, why
    if shutil.which("openssl") is None:
        return
    (tmp_path / "roots.pem").write_text(roots)
    (tmp_path / "leaf.pem").write_text(pem(certificates[0]))
    (tmp_path / "sent.pem").write_text(pem(*certificates))
    argv = ["openssl", "verify", "-partial_chain", "-attime", str(int(now.timestamp()))]
    argv += ["-no-CAfile", "-no-CApath", "-trusted", "roots.pem", "-untrusted", "sent.pem"]
    judged = subprocess.run([*argv, "leaf.pem"], cwd=tmp_path, capture_output=True, text=True)
    assert (judged.returncode == 0) is good, judged.stderr


def test_why_a_chain_is_not_trusted_is_told() -> None:
    roots = pem(ROOT.certificate).encode()
    assert "unable to get" in untrusted(sent(LEAF), roots, NOW)
    late = NOW + timedelta(days=91)
    assert untrusted(sent(*WHOLE), roots, late) == "certificate has expired (the leaf)"


@pytest.mark.parametrize(
    ("pinned", "good"),
    [
        pytest.param(LEAF, True, id="the leaf's"),
        pytest.param(UPPER.certificate, True, id="an intermediate's"),
        pytest.param(ROOT.certificate, False, id="one that was not sent"),
        pytest.param(STRANGER, False, id="of one that was only sent along"),
    ],
)
def test_a_pin_is_of_a_key_on_the_way(pinned: pyca.Certificate, good: bool) -> None:
    why = unpinned(sent(*WHOLE, STRANGER), [pin(OTHER.certificate), pin(pinned)])
    assert (why == "") is good
    assert good or pin(LEAF) in why
