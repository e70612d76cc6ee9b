"""One reading of a configuration file, and the mistakes found in it so far."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from certd.config import identifiers
from certd.config.findings import Finding, dotted, shown
from certd.config.places import Location, Places
from certd.config.source import Source
from certd.config.tables import MANY, SINGLE
from certd.config.words import Wording, found, unknown
from certd.errors import ConfigError
from certd.settings import Surroundings

_PATIENCE = 100  # findings; after that many, no more nearest names are looked for


class Page:
    """The raw tables, and a place to note what is wrong with them: nothing stops at once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.raw = source.parse()
        self.findings: list[Finding] = []
        self.lacking: list[Finding] = []  # on this machine: no mistakes of the file itself
        self.warnings: list[Finding] = []  # right, but better done otherwise

    def add(self, location: Location, what: str, why: str = "", next: str = "") -> None:
        """Note a mistake at ``location``, the path of keys and list elements to it."""
        self.findings.append(self._finding(location, what, why, next))

    def lack(self, location: Location, what: str, why: str = "", next: str = "") -> None:
        """Note something that this machine lacks: no mistake of the file itself."""
        self.lacking.append(self._finding(location, what, why, next))

    def _finding(self, location: Location, what: str, why: str, next: str) -> Finding:
        depth = 1 if location[0] in SINGLE else 2 if location[0] in MANY else 0
        table, rest = location[:depth], location[depth:]
        return Finding(
            file=self.source.name,
            line=self._places.line(location) if self.source.tables is None else None,
            what=what,
            why=why,
            next=next,
            table=dotted(table),
            key=dotted(itertools.takewhile(lambda part: isinstance(part, str), rest)),
        )

    @functools.cached_property
    def _places(self) -> Places:
        return Places(self.source.text)

    def unknown_tables(self) -> None:
        """Note what is in the root of the file and belongs nowhere."""
        for key, value in self.raw.items():
            if key not in SINGLE and key not in MANY:
                kind = "table" if isinstance(value, dict) else "key"
                self.add((key,), *unknown(f"unknown {kind}", key, [*SINGLE, *MANY]))

    def tables(self, kind: str) -> Mapping[str, dict[str, Any]]:
        """The tables ``[kind.NAME]`` by name, whatever is in them."""
        tables = self.raw.get(kind)
        if not isinstance(tables, dict):
            return {}
        return {name: raw for name, raw in tables.items() if isinstance(raw, dict)}

    def named(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables ``[kind.NAME]`` in turn; a bad name, or what is no table, is noted."""
        tables = self.raw.get(kind, {})
        if not isinstance(tables, dict):
            what = f"expected tables [{kind}.NAME], found {found(tables)}"
            self.add((kind,), what, "", f"write a table [{kind}.NAME] for each {noun(kind)}")
            return
        for name, raw in tables.items():
            try:
                identifiers.segment(name)
            except ConfigError as error:
                self.add((kind, name), error.what, error.why, error.next)
            if isinstance(raw, dict):
                yield name, raw
            else:
                what = f"expected a table, found {found(raw)}"
                why = f"[{kind}] holds tables [{kind}.NAME] only"
                todo = f"write single brackets: [{dotted([kind, name])}]"
                if not isinstance(raw, list):
                    todo = f"put it below a header [{kind}.NAME], or leave it out"
                self.add((kind, name), what, why, todo)

    def check(self, location: Location, raw: object, wording: Wording) -> Any:
        """The table as an instance of ``wording.model``, or None when it is wrong."""
        surroundings = Surroundings(self.source.folder)
        table: BaseModel | None = None
        try:
            table = wording.model.model_validate(raw, context=surroundings)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.add(location + detail["loc"], *wording.words(detail))
        for key, lack in surroundings.lacking:
            self.lack((*location, key), lack.what, lack.why, lack.next)
        for key, warning in surroundings.warnings:
            where = (*location, key)
            self.warnings.append(self._finding(where, warning.what, warning.why, warning.next))
        return table

    def right_part(self, raw: object, wording: Wording) -> Any:
        """A wrong table without what is wrong in it; None: it cannot do without that."""
        if not isinstance(raw, dict):
            return None
        surroundings = Surroundings(self.source.folder)
        try:
            return wording.model.model_validate(raw, context=surroundings)
        except ValidationError as error:
            wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
        rest = {key: value for key, value in raw.items() if key not in wrong}
        try:
            return wording.model.model_validate(rest, context=surroundings)
        except ValidationError:
            return None

    def check_references(
        self, location: Location, names: Sequence[str], kind: str, known: Mapping[str, object]
    ) -> None:
        """Note every name in the list at ``location`` that is not known, or there twice."""
        self.check_twice(location, names)
        for index, name in enumerate(names):
            if name in known:
                continue
            what = f"no such {noun(kind)}: {shown(name)}"
            near = unknown(what, name, known)[2] if len(self.findings) < _PATIENCE else ""
            if not near.startswith("did you mean"):
                near = f"correct it, or add a table [{dotted([kind, name])}]"
            self.add((*location, index), what, "", near)

    def check_twice(self, location: Location, values: Sequence[object]) -> None:
        """Note every value that the list at ``location`` has had before."""
        if len(values) < 2 or len(set(values)) == len(values):
            return
        seen: set[object] = set()
        for index, value in enumerate(values):
            if value in seen:
                what = f"{shown(str(value))} is there twice"
                self.add((*location, index), what, "", "leave one of them out")
            seen.add(value)


def noun(kind: str) -> str:
    """What a table ``[kind.NAME]`` is, in a sentence."""
    return "CA" if kind == "ca" else kind
