"""The journal of tokens, which is also what the responders answer from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from certd.errors import SecretError
from certd.model import Identifier
from certd.secrets import Secret
from certd.store import rows
from certd.store.database import Database
from certd.store.envelope import Keys
from certd.store.schema import lineage, order, token
from certd.store.seal import Seal

log = logging.getLogger(__name__)

LONG = timedelta(days=8)  # after which nobody waits for a token any more

_PUBLISH = sa.insert(token).prefix_with("OR REPLACE")
_ANSWER = sa.select(token).where(
    token.c.token.in_(sa.bindparam("names", expanding=True)), token.c.host.is_(None)
)
_ANSWER_FOR = (
    sa.select(token)
    .where(token.c.host == sa.bindparam("host"))
    .order_by(token.c.created_at.desc())
    .limit(1)
)
_BY_HOST = sa.select(token).where(token.c.host.is_not(None))
_PUBLISHED = sa.select(token).where(token.c.lineage == sa.bindparam("name"))
# Of a certificate without an order under way, or of a dry run or probe that is long over.
_ORPHANED = (
    sa.select(token.c.lineage)
    .distinct()
    .where(
        sa.or_(
            token.c.created_at < sa.bindparam("long_ago", type_=token.c.created_at.type),
            sa.and_(
                token.c.lineage.in_(sa.select(lineage.c.name)),
                token.c.lineage.not_in(sa.select(order.c.lineage).where(order.c.state == "live")),
            ),
        )
    )
)
_WITHDRAW = sa.delete(token).where(token.c.lineage == sa.bindparam("name"))


class Tokens:
    def __init__(self, database: Database, seal: Seal, owner: str = "") -> None:
        """``owner`` keeps the tokens of a dry run apart from the daemon's."""
        self._database = database
        self._seal = seal
        self._owner = owner

    def apart(self, owner: str) -> Tokens:
        """The same journal, for somebody whose tokens are none of the others' business."""
        return Tokens(self._database, self._seal, owner)

    def publish(
        self,
        name: str,
        answers: Mapping[str, Secret],
        now: datetime,
        hosts: Mapping[str, Identifier] = MappingProxyType({}),
    ) -> None:
        """``answers``: token to key authorization; publishing again is no error.

        ``hosts``: of the tokens for TLS-ALPN-01, whom the CA will ask for.
        """

        def work(connection: sa.Connection) -> None:
            keys, owner = self._seal.keys(connection), self._owner + name
            values = []
            for text, secret in answers.items():
                kept, sealed = keys.seal_token(text, secret, owner)
                host = rows.identifiers_text(filter(None, [hosts.get(text)])) or None
                values.append(
                    {
                        "token": kept,
                        "key_authorization": sealed,
                        "lineage": owner,
                        "created_at": now,
                        "host": host,
                    }
                )
            connection.execute(_PUBLISH, values)

        self._database.write(work)

    def answer(self, text: str) -> str | None:
        """The key authorization of a token of HTTP-01."""

        def work(connection: sa.Connection) -> str | None:
            keys = self._seal.keys(connection)
            row = connection.execute(_ANSWER, {"names": keys.names(text)}).first()
            return _open(keys, row)[1].reveal() if row else None

        return self._database.read(work)

    def answer_for(self, host: Identifier) -> str | None:
        """The key authorization of the newest TLS-ALPN-01 challenge for this identifier."""

        def work(connection: sa.Connection) -> str | None:
            row = connection.execute(_ANSWER_FOR, {"host": rows.identifiers_text([host])}).first()
            return _open(self._seal.keys(connection), row)[1].reveal() if row else None

        return self._database.read(work)

    def by_host(self) -> set[str]:
        """The tokens of all TLS-ALPN-01 challenges, whoever published them."""
        return set(self._texts(_BY_HOST))

    def published(self, name: str) -> list[str]:
        return self._texts(_PUBLISHED, name=self._owner + name)

    def _texts(self, which: sa.Select[Any], **values: str) -> list[str]:
        def work(connection: sa.Connection) -> list[str]:
            keys = self._seal.keys(connection)
            found = []
            for row in connection.execute(which, values):
                try:
                    found.append(_open(keys, row)[0])
                except SecretError as error:  # it must not keep the others from being withdrawn
                    log.warning("%s: %s", row.lineage, error)
            return found

        return self._database.read(work)

    def withdraw(self, name: str) -> None:
        self._database.defer(lambda c: c.execute(_WITHDRAW, {"name": self._owner + name}))

    def orphaned(self, now: datetime) -> list[str]:
        """Whose tokens nobody needs any more: their process was killed before it withdrew them."""
        return list(
            self._database.read(
                lambda c: c.execute(_ORPHANED, {"long_ago": now - LONG}).scalars().all()
            )
        )


def _open(keys: Keys, row: Any) -> tuple[str, Secret]:
    """Token and key authorization.

    Raises:
        SecretError: the key that they are sealed with is not here.
    """
    return keys.open_token(row.token, row.key_authorization, row.lineage)
