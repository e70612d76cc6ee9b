"""Answers over HTTP that end: in time, and before they are too large.

What requests, boto3 and all else that is built on urllib3 call a read timeout is how long a server
may be silent. One that sends a byte now and then, be it of its headers, would hold a thread for
ever. All of them read what comes by ``http.client``, so here is its answer with an end.
"""

from __future__ import annotations

import functools
import http.client
import io
import time
from typing import Any

import requests

WHOLE = 120.0  # seconds from the request's end on, and once more the silence that it allows
LARGEST = 32 * 2**20  # bytes with the headers, as they come: compressed, perhaps


class TimelyResponse(http.client.HTTPResponse):
    """``response_class`` of a connection."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.fp: Any = io.BufferedReader(_Ending(self.fp.detach()))


class _Ending(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._until = time.monotonic() + WHOLE
        self._left = LARGEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._until:
            raise TimeoutError(f"the answer has not ended after {WHOLE:.0f} s")
        size: int | None = self._raw.readinto(buffer)
        self._left -= size or 0
        if self._left < 0:
            raise OSError(f"the answer has not ended after {LARGEST} bytes")
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class TimelyAdapter(requests.adapters.HTTPAdapter):
    """For sessions of requests, through a proxy too."""

    def init_poolmanager(self, *positional: Any, **named: Any) -> None:
        super().init_poolmanager(*positional, **named)
        make_pools_timely(self.poolmanager)

    def proxy_manager_for(self, *positional: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*positional, **named)
        make_pools_timely(manager)
        return manager


def timely_session() -> requests.Session:
    session = requests.Session()
    make_timely(session)
    return session


def make_timely(session: requests.Session) -> None:
    for scheme in ("https://", "http://"):
        session.mount(scheme, TimelyAdapter())


def make_pools_timely(manager: Any) -> None:
    """Those of a ``urllib3.PoolManager``. A second time changes nothing."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _timely(pool) for scheme, pool in pools.items()}


@functools.cache
def _timely(pool: Any) -> Any:
    connection = pool.ConnectionCls
    if connection.response_class is TimelyResponse:
        return pool
    ends = type(connection.__name__, (connection,), {"response_class": TimelyResponse})
    return type(pool.__name__, (pool,), {"ConnectionCls": ends})
