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
    sa.Column("created_at", Instant, nullable=False),
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
)
# However many workers there are, a certificate has one order under way (invariant I3).
sa.Index(
    "one_live_order",
    order.c.lineage,
    unique=True,
    sqlite_where=order.c.state == "live",
)

# The journal of published HTTP-01 tokens, and what the responder answers from.
token = sa.Table(
    "token",
    metadata,
    sa.Column("token", sa.String, primary_key=True),  # sealed: what stands for it
    sa.Column("key_authorization", sa.String, nullable=False),
    sa.Column("lineage", sa.String, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)
sa.Index("token_lineage", token.c.lineage)

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

# What is left of a CA's limits: when each is whole again. Shared by all who use the account.
bucket = sa.Table(
    "bucket",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("full_at", Instant, nullable=False),
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
