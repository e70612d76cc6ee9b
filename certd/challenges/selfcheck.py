"""Looking at one's own challenges before the CA does, the way the CA will.

A CA counts failed validations; a look of one's own costs nothing, and can say more of what
went wrong. Neither tokens nor key authorizations are in what is told.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from certd.challenges.background import Background
from certd.challenges.httplook import HTTPLook
from certd.challenges.reaching import Miss, Way
from certd.challenges.resolving import Threads
from certd.challenges.tlslook import TLSLook
from certd.challenges.turns import Turns
from certd.errors import ChallengeError
from certd.model import Identifier
from certd.secrets import Secret

MAX_LOOKS = 256  # names looked at at once; others wait, and their time does not run
EACH = 8  # of one certificate: what leads into silence is mostly all that one has

_BLIND = (
    "if only this machine cannot see it, as behind some routers, set self_check = false for "
    "the certificate"
)


class SelfCheck:
    """Looks at many names at once, in one daemon thread, which begins with the first."""

    def __init__(self) -> None:
        self._background = Background("self-check")
        self._turns = Turns(MAX_LOOKS, EACH)
        self._threads = Threads()

    def begin(
        self, way: Way, owner: str, host: str, token: str, key_authorization: str
    ) -> Future[None]:
        """Look whether ``host``, a name or an address, answers this token rightly by HTTP-01.

        ``owner`` is whose look it is: no more than ``EACH`` of one are under way. The
        future's exception is a ChallengeError, if it does not; once this has stopped, it is
        cancelled.
        """
        return self._begin(owner, HTTPLook(way, host, token, key_authorization.encode()))

    def begin_tls(
        self, way: Way, owner: str, host: Identifier, key_authorization: Secret, at: str = ""
    ) -> Future[None]:
        """The same by TLS-ALPN-01; ``at`` an address or name, where that is not the host's own."""
        return self._begin(owner, TLSLook(way, host, at or host.value, key_authorization))

    def _begin(self, owner: str, look: HTTPLook | TLSLook) -> Future[None]:
        return self._background.run(lambda: self._in_turn(owner, look))

    async def _in_turn(self, owner: str, look: HTTPLook | TLSLook) -> None:
        async with self._turns.one(owner):
            progress, seconds = look.progress, look.way.seconds
            try:
                async with asyncio.timeout(seconds) as progress.time:
                    await look.run(self._threads)
                return
            except TimeoutError:
                why = f"{progress.doing}: no answer within {seconds:g} s"
                miss = Miss(why, progress.step)
            except Miss as error:
                miss = error
        raise ChallengeError(
            f"the challenge of {look.host} is not to be seen, so the CA was not told to look",
            str(miss),
            f"{miss.step}; {_BLIND}",
        )

    def stop(self) -> None:
        """Give up what is under way, for good. Without a look before it is nothing."""
        self._background.stop()
