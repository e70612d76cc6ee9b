"""What one setting of a table may be: strings as the values that they stand for."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    ValidationInfo,
)
from pydantic_core import CoreSchema, core_schema

from certd import maintenance
from certd.budget import Limit
from certd.config import hsts, identifiers, network, wishes
from certd.config.authorities import Proxy
from certd.config.findings import shown
from certd.config.values import Endpoint, ListenAddress
from certd.errors import ConfigError, NotHere
from certd.model import Identifier
from certd.program import check_program
from certd.references import SecretReference, read_file
from certd.settings import PATH, REFERENCE, mistake, note_lacking

CHALLENGES = ("http-01", "tls-alpn-01", "dns-01", "dns-account-01", "dns-persist-01")
_LARGEST_BUNDLE = 16 * 2**20  # bytes: a hundred times all the roots that browsers trust


def _checked(parse: Callable[[str], object]) -> GetPydanticSchema:
    """The annotation of a string that ``parse`` turns into a value, or refuses.

    In the JSON Schema it is a string; in the model it is what ``parse`` gives.
    """

    def check(text: str) -> object:
        try:
            return parse(text)
        except ConfigError as error:
            raise mistake(error) from None

    def schema(_source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            check,
            core_schema.str_schema(strict=True),
            serialization=core_schema.to_string_ser_schema(),
        )

    return GetPydanticSchema(schema)


def _challenge(text: str) -> str:
    if text in CHALLENGES:
        return text
    what = f"unknown challenge {shown(text)}"
    known = f"known are {', '.join(CHALLENGES[:-1])} and {CHALLENGES[-1]}"
    near = difflib.get_close_matches(text.lower(), CHALLENGES, 1) or CHALLENGES
    raise ConfigError(what, known, f'write challenge = "{near[0]}"')


def one_or_more(schema: dict[str, Any]) -> None:
    """In the JSON Schema: a challenge, or a list of them."""
    one = {"enum": list(CHALLENGES), "type": "string"}
    several = {"type": schema.pop("type"), "items": one, "minItems": schema.pop("minItems")}
    del schema["items"]
    schema["anyOf"] = [one, several]


def _server(text: str) -> ListenAddress:
    host, port = identifiers.host_port(text)
    try:
        return ListenAddress(str(ip_address(host)), port)
    except ValueError:
        what = f"{shown(text)} is not an address and a port"
        todo = 'write it as "192.0.2.53:53"'
        raise ConfigError(what, "names are looked up there, its own too", todo) from None


def _zone(text: str) -> str:
    name = identifiers.identifier(text)
    if name.type == "ip" or name.value.startswith("*."):
        raise ConfigError(f"{shown(text)} is no zone", "", 'write its name: "example.com"')
    return name.value


def _server_name(text: str) -> str:
    name = identifiers.identifier(text)
    if name.type == "ip" or name.value.startswith("*."):
        why = "a client asks for one DNS name (RFC 6066 section 3)"
        raise ConfigError(f"{shown(text)} is no server name", why, 'write it as "www.example.com"')
    return name.value


def _part(text: str) -> str:
    """The key of a choice by name."""
    return text if text == "*" else _zone(text)


def _window(text: str) -> str:
    maintenance.window(text)
    return text


def one_or_list(schema: dict[str, Any]) -> None:
    """In the JSON Schema: a string, or a list of them."""
    several = {"type": schema.pop("type"), "items": schema.pop("items")}
    schema["anyOf"] = [several["items"], several]


def _interval(text: str) -> timedelta | None:
    if text == "never":
        return None
    try:
        return wishes.lifetime(text)
    except ConfigError:
        what = f"{shown(text)} is no time between two looks"
        todo = 'write it as "6h", or "never"'
        raise ConfigError(what, "so many minutes, hours or days", todo) from None


def one_or_by_name(schema: dict[str, Any]) -> None:
    """In the JSON Schema: the name of a table, or a table of them."""
    by_name = {
        key: schema.pop(key)
        for key in ("type", "additionalProperties", "propertyNames")
        if key in schema
    }
    schema["anyOf"] = [{"type": "string"}, by_name]


def _source(text: str, info: ValidationInfo) -> str:
    try:
        address = network.address(text)
        network.check_address(address)
    except NotHere as error:
        note_lacking(info, "source_address", error)
    except ConfigError as error:
        why = "it is to be one of this machine's"
        raise mistake(ConfigError(error.what, why, error.next)) from None
    return address


def _root_bundle(path: Path) -> Path:
    try:
        if b"-----BEGIN CERTIFICATE-----" in read_file(path, _LARGEST_BUNDLE):
            return path
        why = "it holds no certificate in PEM form"
    except OSError as error:
        why = error.strerror or str(error)
    what = f"{shown(str(path))} cannot be used"
    raise mistake(ConfigError(what, why, "correct the path, or put the CA's root there"))


def _command(argv: list[str], info: ValidationInfo) -> list[str]:
    try:
        check_program(argv)
    except NotHere as error:
        note_lacking(info, info.field_name or "", error)
    except ConfigError as error:
        raise mistake(error) from None
    return argv


def _webroot(path: Path, info: ValidationInfo) -> Path:
    try:
        why = "" if stat.S_ISDIR(os.stat(path).st_mode) else "it is not a folder"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        what = f"{shown(str(path))} cannot be used"
        todo = "correct the path: it is the folder that the web server serves"
        note_lacking(info, "webroot", NotHere(what, why, todo))
    return path


Reference = Annotated[SecretReference, REFERENCE]
FilePath = Annotated[Path, PATH]
Command = Annotated[list[str], AfterValidator(_command)]
WebFolder = Annotated[Path, PATH, AfterValidator(_webroot)]
RootBundle = Annotated[Path, PATH, AfterValidator(_root_bundle)]
Name = Annotated[Identifier, _checked(identifiers.identifier)]
URL = Annotated[str, _checked(identifiers.https_url)]
Origin = Annotated[str, _checked(network.https_origin)]
Host = Annotated[str, _checked(network.host_name)]
Contact = Annotated[str, _checked(identifiers.contact)]
CALimit = Annotated[tuple[str, Limit], _checked(wishes.limit)]
Wish = Annotated[str, _checked(wishes.chain)]
Challenge = Annotated[str, _checked(_challenge)]
Profile = Annotated[str, _checked(wishes.profile)]
Lifetime = Annotated[timedelta, _checked(wishes.lifetime)]
Challenges = Annotated[
    list[Challenge], BeforeValidator(lambda found: found if isinstance(found, list) else [found])
]
Listen = Annotated[
    ListenAddress, _checked(lambda text: ListenAddress(*identifiers.host_port(text)))
]
Server = Annotated[ListenAddress, _checked(_server)]
ProxyURL = Annotated[Proxy, _checked(lambda text: Proxy(*network.proxy(text)))]
Source = Annotated[str, Field(strict=True), AfterValidator(_source)]
Zone = Annotated[str, _checked(_zone)]
Rate = Annotated[Limit, _checked(wishes.rate)]
DNSChoice = Annotated[
    dict[Annotated[str, _checked(_part)], str],
    BeforeValidator(lambda found: {"*": found} if isinstance(found, str) else found),
]
Window = Annotated[str, _checked(_window)]
Windows = Annotated[
    list[Window], BeforeValidator(lambda found: found if isinstance(found, list) else [found])
]
Interval = Annotated[timedelta | None, _checked(_interval)]
HostPort = Annotated[Endpoint, _checked(lambda text: Endpoint(*identifiers.host_port(text)))]
ServerName = Annotated[str, _checked(_server_name)]
Address = Annotated[str, _checked(network.address)]
Pin = Annotated[str, _checked(wishes.pin)]
Header = Annotated[hsts.HSTS, _checked(hsts.wanted)]


def or_two(schema: dict[str, Any]) -> None:
    """In the JSON Schema: one of the kinds, or a list of two. ``certd.config.pairs`` splits it."""
    one = {"enum": schema.pop("enum"), "type": schema.pop("type")}
    two = {"type": "array", "items": one, "minItems": 2, "maxItems": 2}
    schema["anyOf"] = [one, two]
