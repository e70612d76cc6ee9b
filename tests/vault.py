"""A deploy target that needs secrets of every kind, and fails in every way that it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certd.api import Bundle, ConfigError, Secret, SecretReference, TargetError

ENTRY_POINTS = "[certd.deploy_targets]\nsafe = tests.vault:Vault\n"


@dataclass(frozen=True)
class Vault:
    """``how``: good, refused, broken (a mistake of the plugin's, with secrets all around it)."""

    folder: Path
    password: Secret
    keys: tuple[SecretReference, ...]
    how: str = "good"

    def __post_init__(self) -> None:
        if self.how == "wrong":
            raise ConfigError("how = wrong is wrong", "", "correct it")
        if self.how == "odd":
            raise ValueError(f"{self.password.reveal()} is odd")

    def deploy(self, bundle: Bundle) -> None:
        fetched = [key.fetch() for key in self.keys]
        texts = [self.password.reveal(), *(secret.reveal() for secret in fetched)]
        if self.how == "refused":
            raise TargetError("the vault refuses", f"with {fetched} and {self}", "try another day")
        if self.how == "broken":
            raise LookupError(f"{self} has {len(texts)} of {bundle} and {fetched}")
        self.folder.mkdir(exist_ok=True)
        (self.folder / bundle.name).write_text(bundle.certificate.fingerprint)

    def serving(self, name: str) -> str | None:
        place = self.folder / name
        return place.read_text() if place.exists() else None
