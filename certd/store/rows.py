"""From rows to values and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from certd.errors import StoreError
from certd.known import (
    Failure,
    Lineage,
    NextKey,
    Order,
    Park,
    RenewalInfo,
    Revocation,
    Signer,
    TargetPhase,
    TargetState,
    Version,
)
from certd.model import (
    SERVER,
    Bundle,
    Certificate,
    Identifier,
    KeyType,
    Usage,
    keyless,
)
from certd.react import TRIES
from certd.secrets import Secret

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAMAGED = (
    "the file is damaged: stop certd and restore a backup with `certd db restore FILE`, or move "
    "the file aside, and what the targets hold is taken back in without being issued again; "
    "it stays in place and valid meanwhile"
)


class Unreadable(ValueError):
    """A row is not what certd wrote: SQLite has no checksums, so it may be anything."""


def is_damage(reason: str) -> bool:
    """Whether these words of SQLite's speak of a file that is not what it was."""
    return any(word in reason for word in ("malformed", "not a database", "decode to UTF-8"))


def identifiers_text(identifiers: Iterable[Identifier]) -> str:
    return " ".join(f"{item.type}:{item.value}" for item in identifiers)


@lru_cache(maxsize=64)  # what is wanted is mostly what is there
def identifiers(text: str) -> tuple[Identifier, ...]:
    parts = (item.partition(":") for item in text.split())
    return tuple(Identifier("ip" if kind == "ip" else "dns", value) for kind, _, value in parts)


def usages_text(usages: Iterable[Usage]) -> str | None:
    """NULL for a server, as nearly always, and as before it was kept."""
    text = " ".join(usages)
    return None if text == "server" else text


def usages(text: str | None) -> tuple[Usage, ...]:
    return SERVER if text is None else cast("tuple[Usage, ...]", tuple(text.split()))


def failure_text(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    return json.dumps([failure.what, failure.why, failure.next, failure.at.isoformat()])


def failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    try:
        what, why, next, at = json.loads(text)
        return Failure(what, why, next, datetime.fromisoformat(at))
    except (ValueError, TypeError) as error:
        raise Unreadable("a failure") from error


def version(row: Any) -> Version:
    facts = Certificate(
        identifiers(row.identifiers),
        row.not_before,
        row.not_after,
        row.serial,
        row.fingerprint,
        row.spki_sha256,
        row.ari_id,
        row.issuer,
        usages(row.usages),
    )
    return Version(
        row.number,
        row.ca,
        facts,
        row.key_type,
        row.directory,
        row.profile,
        row.wishes or "",
    )


def bundle(row: Any, key_pem: Secret) -> Bundle:
    """
    Raises:
        StoreError: its key is gone.
    """
    if not key_pem.reveal() and not keyless(row.wishes):
        what = f"version {row.number} of {row.lineage} has lost its private key"
        raise StoreError(what, "", DAMAGED)
    facts = version(row).certificate
    return Bundle(row.lineage, row.number, row.leaf_pem, row.chain_pem, key_pem, facts)


def facts_values(facts: Certificate) -> dict[str, Any]:
    return {
        "identifiers": identifiers_text(facts.identifiers),
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "serial": facts.serial,
        "fingerprint": facts.fingerprint,
        "spki_sha256": facts.spki_sha256,
        "ari_id": facts.ari_id,
        "issuer": facts.issuer,
        "usages": usages_text(facts.usages),
    }


def renewal(row: Any) -> RenewalInfo | None:
    if row.window_start is None:
        return None
    return RenewalInfo(row.window_start, row.window_end, row.window_selected, row.explanation_url)


def revocation(row: Any) -> Revocation:
    return Revocation(
        row.fingerprint,
        row.lineage,
        row.number,
        row.reason,
        cast(Signer, row.signer),
        row.asked_at,
        row.revoked_at,
        row.failures,
        row.retry_at,
        failure(row.failure),
        row.ends,
    )


def target(row: Any) -> TargetState:
    return TargetState(
        row.target,
        cast(TargetPhase, row.phase),
        row.version,
        row.serving,
        row.failures,
        row.since,
        row.retry_at,
        failure(row.failure),
        row.until,
    )


def target_values(state: TargetState) -> dict[str, Any]:
    return {
        "phase": state.phase,
        "version": state.version,
        "serving": state.serving,
        "failures": state.failures,
        "since": state.since,
        "retry_at": state.retry_at,
        "failure": failure_text(state.failure),
        "until": state.until,
    }


def order(row: Any, key_pem: Secret) -> Order:
    return Order(
        row.id,
        row.lineage,
        row.ca,
        identifiers(row.identifiers),
        cast(KeyType, row.key_type),
        key_pem,
        row.csr_pem,
        row.replaces,
        row.url,
        row.created_at,
        row.directory,
        row.finalizing,
        row.profile,
        None if row.lifetime is None else timedelta(seconds=row.lifetime),
        row.wishes or "",
    )


def parks(found: Iterable[Any]) -> dict[str, dict[str, Park]]:
    """By certificate, then by CA; those for everyone are under ""."""
    parks: dict[str, dict[str, Park]] = {}
    for row in found:
        why = cast(Failure, failure(row.failure))
        parks.setdefault(row.lineage, {})[row.ca] = Park(row.until, why, row.lineage == "")
    return parks


def _longer(own: Mapping[str, Park], everyones: Mapping[str, Park]) -> dict[str, Park]:
    """Of each CA the park that ends later."""
    merged = dict(own)
    for ca, park in everyones.items():
        mine = own.get(ca)
        if mine is None or (mine.until and (park.until is None or park.until > mine.until)):
            merged[ca] = park
    return merged


def lineage(
    row: Any,
    targets: Mapping[str, TargetState],
    order: tuple[str, int | None] | None,
    parks: Mapping[str, Mapping[str, Park]],
    revocations: Iterable[Revocation] = (),
) -> Lineage:
    """``order``: of the one under way its URL, "" before the CA has told it, and how many looks
    have failed since finalize, None before; None: no order.

    ``parks`` are those of all certificates.
    """
    url, asked = order or ("", None)
    return Lineage(
        row.name,
        version(row) if row.number is not None else None,
        renewal(row),
        row.ask_again,
        row.ask_failures,
        bool(row.forced),
        row.failures,
        row.retry_at,
        failure(row.failure),
        order is not None,
        bool(url),
        targets,
        _longer(parks.get(row.name, {}), parks.get("", {})) if parks else {},
        row.held_until,
        row.held_for or "",
        bool(row.new_key),
        NextKey(row.next_type, row.next_pin) if row.next_type is not None else None,
        tuple(revocations),
        row.challenge,
        asked is not None and asked <= TRIES,
    )
