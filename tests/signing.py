"""Signing requests as operators make them, by OpenSSL."""

from __future__ import annotations

import subprocess
from pathlib import Path

OPENSSL = "openssl"


def make(folder: Path, *names: str, key: str = "EC -pkeyopt ec_paramgen_curve:P-256") -> Path:
    """``www.csr`` beside ``www.key``, for these subjectAltNames, such as ``DNS:a.example``."""
    request, private = folder / "www.csr", folder / "www.key"
    words = ["genpkey", "-algorithm", *key.split(), "-out", str(private)]
    subprocess.run([OPENSSL, *words], check=True, capture_output=True)
    sign(folder, *names)
    return request


def sign(folder: Path, *names: str, subject: str = "/", usage: str = "") -> None:
    """Another ``www.csr`` with the key that is there."""
    words = ["req", "-new", "-key", str(folder / "www.key"), "-subj", subject]
    words += ["-out", str(folder / "www.csr")]
    if names:
        words += ["-addext", f"subjectAltName={','.join(names)}"]
    if usage:
        words += ["-addext", f"extendedKeyUsage={usage}"]
    subprocess.run([OPENSSL, *words], check=True, capture_output=True)
