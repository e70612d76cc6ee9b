"""The journal of HTTP-01 tokens, which is also what the responder answers from."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import sqlalchemy as sa

from certd.errors import SecretError
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.schema import lineage, order, token
from certd.store.seal import Seal

log = logging.getLogger(__name__)

LONG = timedelta(days=8)  # after which nobody waits for a token any more

_PUBLISH = sa.insert(token).prefix_with("OR REPLACE")
_ANSWER = sa.select(token).where(token.c.token.in_(sa.bindparam("names", expanding=True)))
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

    def publish(self, name: str, answers: dict[str, Secret], now: datetime) -> None:
        """``answers``: token to key authorization; publishing again is no error."""

        def work(connection: sa.Connection) -> None:
            keys, owner = self._seal.keys(connection), self._owner + name
            kept = (keys.seal_token(text, secret, owner) for text, secret in answers.items())
            connection.execute(
                _PUBLISH,
                [
                    {
                        "token": text,
                        "key_authorization": sealed,
                        "lineage": owner,
                        "created_at": now,
                    }
                    for text, sealed in kept
                ],
            )

        self._database.write(work)

    def answer(self, text: str) -> str | None:
        def work(connection: sa.Connection) -> str | None:
            keys = self._seal.keys(connection)
            row = connection.execute(_ANSWER, {"names": keys.names(text)}).first()
            if row is None:
                return None
            return keys.open_token(row.token, row.key_authorization, row.lineage)[1].reveal()

        return self._database.read(work)

    def published(self, name: str) -> list[str]:
        def work(connection: sa.Connection) -> list[str]:
            keys = self._seal.keys(connection)
            found = []
            for row in connection.execute(_PUBLISHED, {"name": self._owner + name}):
                try:
                    opened = keys.open_token(row.token, row.key_authorization, row.lineage)
                except SecretError as error:  # it must not keep the others from being withdrawn
                    log.warning("%s: %s", name, error)
                else:
                    found.append(opened[0])
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
