"""What the fuzzer begins with: inputs that are right, so that it need not invent them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certd.model import Identifier
from certd.x509 import csr, new_key
from tests.configuring import AGREED, WWW
from tests.fuzz.conversation import CHAIN, DOCUMENTS, LIST
from tests.unit.test_hello import WHOLE as HELLO

_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.0 404 No\r\n\r\nno",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n",
)
_SETTINGS = (
    AGREED + WWW,
    '[certd]\nstate = "x"\ncontact = ["mailto:a@b.example"]\nworkers = 2\n[ca.x]\n'
    'directory = "https://ca.example:14000/dir"\n[http]\nlisten = ["[::]:80"]\n',
    '[target.t]\ntype = "disk"\npath = "/srv/{name}"\nverify = ["a.example:443"]\n'
    "[certificate]\nw = { names = ['*.b\u00fccher.example', '192.0.2.1'], targets = [\"t\"] }\n",
)


def seeds(target: str) -> list[bytes]:
    """Of one target; of all of them, for a name that is none, as ``together`` takes them."""
    if target in SEEDS:
        return [seed if isinstance(seed, bytes) else seed.encode() for seed in SEEDS[target]]
    return [bytes([number]) + seed for number, name in enumerate(SEEDS) for seed in seeds(name)]


SEEDS: Mapping[str, list[str | bytes]] = {
    "pem": [CHAIN],
    "der": [
        one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(CHAIN.encode())
    ],
    "request": [csr(new_key("ec-p256"), [Identifier("dns", "www.example.com")])],
    "document": [
        bytes([number]) + json.dumps(document).encode()
        for number, document in enumerate(DOCUMENTS.values())
    ],
    "delay": ["120", "Thu, 01 Jan 2026 12:02:00 GMT", "Thursday, 01-Jan-26 12:02:00 GMT"],
    "window": ["2026-07-01T00:00:00Z\n2026-07-02T00:00:00.5+01:00"],
    "answer": [b"\x7f" + answer for answer in _ANSWERS],
    "settings": list(_SETTINGS),
    "hello": [HELLO],
    "reply": list(_ANSWERS),
    "revoked": [LIST],
}
