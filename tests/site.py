"""A site: a folder with a ``certd.toml``, and certd run there as its operator runs it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from certd import config as configuration
from certd.model import Bundle
from certd.store import Store
from certd.store.keyfile import add_key
from certd.testing.processes import Child
from tests import warm

CERTD = Path(sys.executable).with_name("certd")


class CA(Protocol):
    """A running Pebble, or a proxy in front of one."""

    @property
    def directory(self) -> str: ...

    @property
    def ca_bundle(self) -> Path: ...

    @property
    def http_port(self) -> int: ...

    @property
    def tls_port(self) -> int: ...

    @property
    def resolver(self) -> str | None: ...


class Site:
    """``tables`` is the configuration by table name; ``write`` it after a change by hand.

    There is one ACME CA, named ``test``, whose questions certd answers itself.
    """

    def __init__(self, folder: Path, ca: CA | None) -> None:
        """``ca`` None: certificates are wanted of certd's own CA, and nobody is asked."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "certd.toml"
        self.state = folder / "state"
        self.tables: dict[str, dict[str, Any]] = {"certd": {"state": "state"}}
        self._usual: dict[str, Any] = {"ca": ["local"]}
        if ca is not None:
            self._ask(ca)
        self.write()

    def _ask(self, ca: CA) -> None:
        self.tables["ca.test"] = {
            "directory": ca.directory,
            "ca_bundle": str(ca.ca_bundle),
            "agree_tos": True,
        }
        self.tables["http"] = {
            "listen": [f"127.0.0.1:{ca.http_port}"],
            "validation_port": ca.http_port,
        }
        self.tables["tls_alpn"] = {
            "listen": [f"127.0.0.1:{ca.tls_port}"],
            "validation_port": ca.tls_port,
        }
        self._usual = {"ca": ["test"]}
        # Names of tests mean something to the DNS of their CA only.
        if ca.resolver:
            self._usual["self_check"] = True
            self.tables["certd"]["resolver"] = ca.resolver

    def write(self) -> None:
        self.path.write_text(
            "".join(
                f"[{table}]\n"
                + "".join(f"{key} = {_toml(value)}\n" for key, value in settings.items())
                for table, settings in self.tables.items()
            )
        )

    def sealed(self, key: str = "key") -> Self:
        """The secrets in the database are sealed, by a key that is made in this file."""
        add_key(self.folder / key)
        self.tables["certd"]["seal"] = {"file": key}
        self.write()
        return self

    def certificate(self, name: str, *names: str, **settings: Any) -> Self:
        """Want this certificate; in place of what was wanted under that name."""
        table = {"names": list(names), **self._usual, **settings}
        self.tables[f"certificate.{name}"] = table
        self.write()
        return self

    def disk(self, target: str = "web", **settings: Any) -> Self:
        """A disk target, in the site's folder unless ``path`` says otherwise."""
        path = str(self.folder / target / "{name}")
        self.tables[f"target.{target}"] = {"type": "disk", "path": path, **settings}
        self.write()
        return self

    def copy(self, folder: Path) -> Site:
        """The same site elsewhere, with its state as it is now."""
        shutil.copytree(self.folder, folder)
        twin = object.__new__(Site)
        twin.folder, twin.path, twin.state = folder, folder / "certd.toml", folder / "state"
        twin._usual = self._usual
        twin.tables = {name: dict(table) for name, table in self.tables.items()}
        return twin

    # -- certd as a process ----------------------------------------------------------------

    def argv(self, *words: str) -> list[str]:
        return [str(CERTD), "-c", str(self.path), *words]

    def certd(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without its imports; ``environment`` is added to ours."""
        return warm.shared().run(self.argv(*words), environment)

    def renew(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``certd renew``, which must go well."""
        done = self.certd("renew", *words, **environment)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str, **environment: str) -> Child:
        """Start a command, such as ``run``; its output goes to ``certd.log``."""
        log = self.folder / "certd.log"
        return warm.WarmChild(self.argv(*words), log, environment=environment)

    # -- what became of it -----------------------------------------------------------------

    def status(self) -> Mapping[str, dict[str, Any]]:
        """``certd status --json``: the entry of each certificate, by name."""
        done = self.certd("status", "--json")
        assert done.stdout, done.stderr
        return {entry["name"]: entry for entry in json.loads(done.stdout)["certificates"]}

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, to read only."""
        store = Store.look(self.state, configuration.seal(self.path))
        try:
            yield store
        finally:
            store.close()

    def bundle(self, name: str) -> Bundle | None:
        """The current version of this certificate, with its key; None: there is none."""
        with self.store() as store:
            current = store.lineages.get(name).current
            return store.lineages.bundle(name, current.number) if current else None


def _toml(value: Any) -> str:
    """Strings, numbers and booleans are the same in JSON and TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(value[key])}' for key in value)} }}"
    return json.dumps(value)
