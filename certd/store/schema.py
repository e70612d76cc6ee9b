"""The tables. A change here needs a migration in ``migrations/versions``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from certd.store.rows import EPOCH


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant, kept as whole microseconds since 1970: exact, and quick to index."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

account = sa.Table(
    "account",
    metadata,
    sa.Column("directory", sa.String, primary_key=True),
    sa.Column("key_pem", sa.String, nullable=False),  # sealed, where a key is configured
    sa.Column("uri", sa.String),
    # Kept before the CA hears of it; until it is known which, either may be the account's key.
    sa.Column("next_key_pem", sa.String),
    sa.Column("deactivated", sa.Boolean),  # by the operator, for good (RFC 8555 section 7.3.6)
    sa.Column("terms", sa.String),  # URL of the terms of service that were accepted
)

# One row for each configured certificate: what is current, what is due, who works on it.
lineage = sa.Table(
    "lineage",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("configured", sa.Boolean, nullable=False),
    sa.Column("wanted", sa.String, nullable=False),  # JSON of the CertificateSpec
    sa.Column("due_at", Instant),
    sa.Column("holder", sa.String),  # the worker that has the lease
    sa.Column("epoch", sa.Integer, nullable=False),  # fencing token, bumped by each lease
    sa.Column("current", sa.Integer),
    sa.Column("forced", sa.Boolean, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("failure", sa.String),  # JSON
    sa.Column("window_start", Instant),
    sa.Column("window_end", Instant),
    sa.Column("window_selected", Instant),
    sa.Column("explanation_url", sa.String),
    sa.Column("ask_again", Instant),
    sa.Column("ask_failures", sa.Integer, nullable=False),
    sa.Column("held_until", Instant),  # a CA's limit: no order before
    sa.Column("held_for", sa.String),  # which one, for people
    # The CRL that the current leaf names; "" where it names none, NULL: nobody has looked yet.
    sa.Column("crl_url", sa.String),
    sa.Column("new_key", sa.Boolean),  # beside ``forced``: and with another key
    sa.Column("challenge", sa.String),  # the next order's; NULL: the first that is wanted
)
sa.Index("lineage_due", lineage.c.due_at)
sa.Index("lineage_holder", lineage.c.holder)

version = sa.Table(
    "version",
    metadata,
    sa.Column("lineage", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("ca", sa.String, nullable=False),
    sa.Column("directory", sa.String),  # NULL: from before that was kept
    sa.Column("key_type", sa.String, nullable=False),
    sa.Column("identifiers", sa.String, nullable=False),  # "dns:a.example ip:192.0.2.1"
    sa.Column("not_before", Instant, nullable=False),
    sa.Column("not_after", Instant, nullable=False),
    sa.Column("serial", sa.String, nullable=False),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("spki_sha256", sa.String, nullable=False),
    sa.Column("ari_id", sa.String),
    sa.Column("issuer", sa.String, nullable=False),
    sa.Column("usages", sa.String),  # "server client"; NULL: a server
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("profile", sa.String),
    sa.Column("wishes", sa.String),  # of the spec that it was made to; NULL: none
    # Last, and so not read where they are not asked for: they fill pages.
    sa.Column("key_pem", sa.String, nullable=False),
    sa.Column("leaf_pem", sa.String, nullable=False),
    sa.Column("chain_pem", sa.String, nullable=False),
)

order = sa.Table(
    "certificate_order",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("lineage", sa.String, nullable=False),
    sa.Column("ca", sa.String, nullable=False),
    sa.Column("identifiers", sa.String, nullable=False),
    sa.Column("key_type", sa.String, nullable=False),
    sa.Column("key_pem", sa.String),  # moves to the version when the order is done
    sa.Column("csr_pem", sa.String, nullable=False),
    sa.Column("replaces", sa.String),
    sa.Column("url", sa.String),
    sa.Column("state", sa.String, nullable=False),  # live, done, failed, abandoned
    sa.Column("outcome", sa.String),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("directory", sa.String),  # NULL: from before that was kept
    # Attempts that failed since finalize was asked for; NULL: it was not.
    sa.Column("finalizing", sa.Integer),
    sa.Column("profile", sa.String),
    sa.Column("lifetime", sa.Integer),  # seconds; NULL: whatever the CA gives
    sa.Column("wishes", sa.String),  # of the spec that it was begun for; NULL: none
)
# However many workers there are, a certificate has one order under way (invariant I3).
sa.Index(
    "one_live_order",
    order.c.lineage,
    unique=True,
    sqlite_where=order.c.state == "live",
)

# The key made in advance for the next issuance of a certificate with a backup key.
next_key = sa.Table(
    "next_key",
    metadata,
    sa.Column("lineage", sa.String, primary_key=True),
    sa.Column("key_type", sa.String, nullable=False),
    sa.Column("spki_sha256", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("key_pem", sa.String, nullable=False),
)

# The journal of published tokens, and what the responders answer from.
token = sa.Table(
    "token",
    metadata,
    sa.Column("token", sa.String, primary_key=True),  # sealed: what stands for it
    sa.Column("key_authorization", sa.String, nullable=False),
    sa.Column("lineage", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("host", sa.String),  # of TLS-ALPN-01: the identifier; it is asked for by that
)
sa.Index("token_lineage", token.c.lineage)

# What is, or may be, in zones; without it a crash would leave records there for ever.
dns_record = sa.Table(
    "dns_record",
    metadata,
    sa.Column("lineage", sa.String, primary_key=True),
    sa.Column("account", sa.String, primary_key=True),  # the [dns] table
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, primary_key=True),
    sa.Column("zone", sa.String, nullable=False),
    sa.Column("ttl", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("unwanted", sa.Boolean, nullable=False),  # it is to be removed
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("failure", sa.String),  # JSON
    # What name and value are made of, where the provider makes them itself (``DNSChallenge``).
    sa.Column("domain", sa.String),
    sa.Column("key_authorization", sa.String),  # sealed, where a key is configured
)

target = sa.Table(
    "target",
    metadata,
    sa.Column("lineage", sa.String, primary_key=True),
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("phase", sa.String, nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("serving", sa.Integer),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("since", Instant),
    sa.Column("retry_at", Instant),
    sa.Column("failure", sa.String),  # JSON
    sa.Column("until", Instant),
)

# A CA that is not asked: by one certificate, or by all where ``lineage`` is "".
park = sa.Table(
    "park",
    metadata,
    sa.Column("lineage", sa.String, primary_key=True),
    sa.Column("ca", sa.String, primary_key=True),
    sa.Column("until", Instant),  # NULL: until the operator acts
    sa.Column("failure", sa.String, nullable=False),  # JSON
)

# The roots and intermediates of our own CAs: the newest of each role signs.
authority = sa.Table(
    "authority",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("ca", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),  # root, intermediate
    sa.Column("key_pem", sa.String, nullable=False),
    sa.Column("certificate_pem", sa.String, nullable=False),
    sa.Column("not_before", Instant, nullable=False),
    sa.Column("not_after", Instant, nullable=False),
)

# What they have signed, by the order that asked for it, until it expires.
issued = sa.Table(
    "issued",
    metadata,
    sa.Column("url", sa.String, primary_key=True),
    sa.Column("chain_pem", sa.String, nullable=False),  # with the leaf
    sa.Column("not_after", Instant, nullable=False),
)

# What is left of a CA's limits: when each is whole again. Shared by all who use the account.
bucket = sa.Table(
    "bucket",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("full_at", Instant, nullable=False),
)

# What is revoked, or is to be; by fingerprint, for it outlives the version.
revocation = sa.Table(
    "revocation",
    metadata,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("lineage", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("signer", sa.String, nullable=False),  # account, key, ca
    sa.Column("asked_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),  # NULL: the CA has not done it yet
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("failure", sa.String),  # JSON
)
sa.Index("revocation_lineage", revocation.c.lineage)

# Keys that must never be used again, by SPKI pin: they stay when their versions are gone.
compromised_key = sa.Table(
    "compromised_key",
    metadata,
    sa.Column("spki_sha256", sa.String, primary_key=True),
    sa.Column("lineage", sa.String, nullable=False),  # which had it
    sa.Column("since", Instant, nullable=False),
)

# When each CRL is to be fetched again. Shared by all certificates that name it.
crl = sa.Table(
    "crl",
    metadata,
    sa.Column("url", sa.String, primary_key=True),
    sa.Column("look_at", Instant, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failure", sa.String),  # JSON
)

# The data keys: the newest seals, the others open what it does not seal yet. No row: the
# database is not sealed.
seal_key = sa.Table(
    "seal_key",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sealed_by", sa.String, nullable=False),  # the id of the operator's key
    sa.Column("wrapped", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # new, sealed, whole: see resealing
)
