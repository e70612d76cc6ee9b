"""The truth: what is wanted, ordered, current and deployed, on disk before it counts.

The only importer of SQLAlchemy, and even here only when it is needed: ``glance`` does
without, for ``certd status``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certd.store.leases import LeaseLost
    from certd.store.locks import FileLock
    from certd.store.store import Store

__all__ = ["FileLock", "LeaseLost", "Store"]

_HOME = {"FileLock": "locks", "LeaseLost": "leases", "Store": "store"}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for (PEP 562): SQLAlchemy takes 0.2 s."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(name)
    return getattr(import_module(f"certd.store.{_HOME[name]}"), name)
