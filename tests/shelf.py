"""A deploy target that puts certificates on a shelf: a plugin as a stranger would write one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from certd.api import Bundle, ConfigError, NotHere, Secret, SecretReference

ENTRY_POINTS = """\
[certd.deploy_targets]
shelf = tests.shelf:Shelf
broken = tests.no_such_module:Broken
mutable = tests.shelf:Mutable
clash = tests.shelf:Clash
strange = tests.shelf:Strange
"""


def check_wood(wood: str) -> None:
    if wood == "balsa":
        raise ConfigError('"balsa" is too soft', "books are heavy", "take oak")
    if wood == "ebony":
        raise NotHere("there is no ebony here", "it comes by ship", "take oak")
    if wood == "plastic":
        raise LookupError(f"no such tree: {wood}")


def check_lock(lock: Secret) -> None:
    raise LookupError(lock.reveal())


@dataclass(frozen=True)
class Shelf:
    """Every kind of field that a setting can be."""

    path: Path = field(
        metadata={
            "missing": "a shelf stands somewhere",
            "example": "/srv/{name}",
            "description": "w",
        }
    )
    mode: str = "0600"
    copy: int = 1  # a name that pydantic's own classes use
    token: Secret | None = None
    tokens: tuple[Secret, ...] = ()
    others: tuple[Path, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    reload: tuple[str, ...] = ()
    wait: float = 60.0  # seconds
    wood: str = field(default="oak", metadata={"check": check_wood})
    lock: Secret | None = field(default=None, metadata={"check": check_lock})
    password: SecretReference | None = None
    keys: tuple[SecretReference, ...] = ()

    def __post_init__(self) -> None:
        if not self.mode.isdigit():
            raise ConfigError(f'mode = "{self.mode}" is no number', "digits only", "write 0640")
        if self.copy > 9:
            raise ConfigError("copy", "a shelf has nine boards", "correct it")
        if self.wait == 13.0:
            raise ConfigError("the shelf is superstitious", "13", "wait longer")
        if self.wait == 14.0:
            raise ValueError("so to speak 13")

    def deploy(self, bundle: Bundle) -> None:
        raise NotImplementedError

    def serving(self, name: str) -> str | None:
        return None


@dataclass
class Mutable:
    """Not frozen: no plugin."""


@dataclass(frozen=True)
class Clash:
    """Wants a setting that the core has."""

    verify: str = ""


@dataclass(frozen=True)
class Strange:
    """A field of a type that no setting can have."""

    thread: Thread | None = None


def install(folder: Path, entry_points: str = ENTRY_POINTS) -> None:
    """Make ``folder``, once it is on ``sys.path``, look like an installed distribution."""
    metadata = folder / "shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
