"""certd: an ACME certificate lifecycle daemon, and the same inside another Python program."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certd.library import Certd as Certd

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not before somebody asks for it: each command imports this package.
    if name == "Certd":
        from importlib import import_module

        return import_module("certd.library").Certd
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
