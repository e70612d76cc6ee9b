"""A CA that answers by heart, and everything that certd says to one.

No socket: ``Wire`` has its own tests, and here a conversation is to take a millisecond.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from certd.ca import ari
from certd.ca.client import Client
from certd.ca.keys import new_account_key
from certd.ca.net import Network, Reply
from certd.ca.reading import Answer
from certd.ca.resources import TOKEN
from certd.ca.wire import Wire
from certd.known import Account
from certd.testing.chains import NOW, Authority, identifiers, pem
from certd.windows import ask_again, renewal_info
from certd.x509 import check, csr, csr_der, new_key

ORIGIN = "https://ca.example"
NAMES = ("www.example.com", "192.0.2.1")
ASKED = identifiers(*NAMES)
KEY = new_key("ec-p256")
ROOT = Authority.root()
MIDDLE = ROOT.authority("Intermediate 1")
CHAIN = pem(MIDDLE.leaf(KEY, *NAMES), MIDDLE.certificate)
ISSUER = pem(MIDDLE.certificate)
LIST = MIDDLE.crl(7)  # of what it has revoked
_CSR = csr_der(csr(KEY, ASKED))
_ACCOUNT_KEY = new_account_key()

_REFUSED = {
    "type": "urn:ietf:params:acme:error:unauthorized",
    "title": "Unauthorized",
    "detail": "no such token",
    "instance": f"{ORIGIN}/why",
    "subproblems": [
        {
            "type": "urn:ietf:params:acme:error:caa",
            "detail": "CAA forbids it",
            "identifier": {"type": "dns", "value": "www.example.com"},
        }
    ],
}

# Every document that a CA sends, right, with every member that certd or RFC 8555 knows.
DOCUMENTS: Mapping[str, dict[str, Any]] = {
    "directory": {
        "newNonce": f"{ORIGIN}/nonce",
        "newAccount": f"{ORIGIN}/account",
        "newOrder": f"{ORIGIN}/new-order",
        "revokeCert": f"{ORIGIN}/revoke",
        "keyChange": f"{ORIGIN}/roll",
        "renewalInfo": f"{ORIGIN}/ari",
        "meta": {
            "termsOfService": f"{ORIGIN}/terms",
            "website": ORIGIN,
            "caaIdentities": ["ca.example"],
            "externalAccountRequired": False,
            "profiles": {"classic": f"{ORIGIN}/classic"},
        },
    },
    "account": {"status": "valid", "contact": ["mailto:ops@example.com"], "orders": ORIGIN},
    "new-order": {
        "status": "pending",
        "expires": "2026-06-02T12:00:00Z",
        "identifiers": [
            {"type": "dns", "value": "www.example.com"},
            {"type": "ip", "value": "192.0.2.1"},
        ],
        "notBefore": "2026-06-01T12:00:00Z",
        "authorizations": [f"{ORIGIN}/authorization"],
        "finalize": f"{ORIGIN}/finalize",
        "certificate": f"{ORIGIN}/certificate",
        "error": _REFUSED,
    },
    "authorization": {
        "status": "pending",
        "expires": "2026-06-02T12:00:00Z",
        "identifier": {"type": "dns", "value": "www.example.com"},
        "wildcard": False,
        "challenges": [
            {
                "type": "http-01",
                "url": f"{ORIGIN}/challenge",
                "status": "pending",
                "token": "DGyRejmCefe7v4NfDGDKfA",
                "validated": "2026-06-01T12:00:00Z",
                "error": _REFUSED,
            },
            {"type": "later-01", "url": f"{ORIGIN}/other", "status": "pending"},
        ],
    },
    "renewal-info": {
        "suggestedWindow": {"start": "2026-07-01T00:00:00Z", "end": "2026-07-02T00:00:00Z"},
        "explanationURL": f"{ORIGIN}/explanation",
    },
    "problem": _REFUSED,
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


class _Book:
    """The store's accounts: always one without an address yet."""

    def account(self, directory: str) -> Account | None:
        return Account(directory, _ACCOUNT_KEY)

    def keep_account(self, account: Account) -> Account:
        return account

    def keep_account_key(self, account: Account) -> None:
        assert account.uri is None

    def keep_account_uri(self, account: Account) -> bool:
        assert account.uri is not None
        assert account.uri.isprintable()
        return True

    def keep_rolled_over(self, account: Account) -> bool:
        raise AssertionError("there is no other key")


class ByHeart:
    """Answers every request rightly, but for those to the path in ``changed``."""

    def __init__(self, changed: Mapping[str, Answer]) -> None:
        self._changed = changed

    def exchange(self, method: str, url: str, *_: object) -> Answer:
        assert url.startswith(f"{ORIGIN}/"), f"certd asked {url}"
        kind = url.removeprefix(f"{ORIGIN}/").partition("/")[0]
        return self._changed.get(kind) or _right(kind)


def _right(kind: str) -> Answer:
    headers = {"replay-nonce": "abc-", "retry-after": "3"}
    if kind == "certificate":
        return Answer(200, headers, CHAIN.encode())
    if kind in ("account", "new-order"):
        headers["location"] = f"{ORIGIN}/{'order' if kind == 'new-order' else 'me'}"
    kind = {"order": "new-order", "finalize": "new-order", "ari": "renewal-info"}.get(kind, kind)
    return Answer(200, headers, encoded(DOCUMENTS.get(kind, {})))


def answer(kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Answer]:
    """By path: right answers of that kind but for the body, and for what ``headers`` change."""
    paths = {
        "problem": ("new-order", "order", "ari", "certificate"),
        "renewal-info": ("ari",),
        "new-order": ("new-order", "order", "finalize"),
    }.get(kind, (kind,))
    status = 400 if kind == "problem" else 200
    return {
        path: Answer(status, {**_right(path).headers, **(headers or {})}, body) for path in paths
    }


class _Telling:
    """A client that asks nobody, and gets this answer about every renewal."""

    def __init__(self, body: bytes) -> None:
        self._reply = Reply(f"{ORIGIN}/ari", {}, body)

    def renewal_info(self, ari_id: str) -> Reply:
        return self._reply


def telling(body: bytes) -> Client:
    return cast(Client, _Telling(body))


def root(folder: Path) -> Path:
    """A file with the root of an HTTPS that is never spoken."""
    file = folder / "root.pem"
    if not file.exists():
        file.write_text(pem(ROOT.certificate))
    return file


def converse(folder: Path, answers: Mapping[str, Answer]) -> str:
    """Go the whole way from the directory to the renewal window; gives what may be shown.

    ``folder`` is for ``root``. Whatever is wrong raises what certd makes of it.
    """
    network = Network(root(folder), "test")
    network._wire = cast(Wire, ByHeart(answers))
    client = Client("test", f"{ORIGIN}/directory", network, _Book(), agreed=True)
    order = client.new_order(ASKED, "a.b")
    order = client.order(order.url)
    shown = [order.url, order.status, order.error, *map(str, order.identifiers)]
    for url in order.authorizations:
        found = client.authorization(url)
        shown += [str(found.identifier), found.status]
        for challenge in found.challenges:
            shown += [challenge.type, challenge.status, challenge.token, challenge.error]
            if challenge.type == "http-01":
                assert TOKEN.fullmatch(challenge.token)
                client.answer(challenge)
    order = client.finalize(order, _CSR)
    _, _, facts = check(client.download(order.certificate or "").pem, KEY, ASKED, NOW)
    window = ari.ask(client, facts.ari_id or "")
    shown.append(window.explanation_url or "")
    info = renewal_info(window.start, window.end, window.explanation_url, None, 0.5)
    shown += [facts.issuer, str(info), str(ask_again(NOW, window.retry_after, 0))]
    assert all(isinstance(text, str) for text in shown), shown
    return " ".join(shown)
