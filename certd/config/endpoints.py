"""An endpoint of ``verify``: host:port, or a table that says more of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetPydanticSchema,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from certd.config.catables import Table
from certd.config.fields import Address, Header, HostPort, Pin, RootBundle, ServerName
from certd.config.findings import shown
from certd.config.values import Endpoint
from certd.config.words import Wording, found
from certd.errors import ConfigError, NotHere
from certd.program import located
from certd.settings import mistake, note_lacking

_FORM = 'write "www.example.com:443", or { at = "www.example.com:443", … }'


def _once(texts: list[str]) -> list[str]:
    for at, text in enumerate(texts):
        if text in texts[:at]:
            what = f"{shown(text)} is there twice"
            raise mistake(ConfigError(what, "", "leave one of them out"))
    return texts


class EndpointTable(Table):
    """An endpoint, and how it is asked and judged."""

    at: HostPort = Field(description="host and port", examples=["www.example.com:443"])
    sni: ServerName | None = Field(
        None, description="the name that it is asked for, instead of one of the certificate's"
    )
    starttls: Literal["smtp", "imap", "pop3", "ldap", "postgres"] | None = Field(
        None, description="the protocol in which TLS is asked for first"
    )
    addresses: Annotated[list[Address], AfterValidator(_once)] = Field(
        [], description="the addresses to ask, instead of all that the name resolves to"
    )
    roots: RootBundle | None = Field(
        None, description="PEM file of the roots that the served chain must lead to"
    )
    pins: Annotated[list[Pin], AfterValidator(_once)] = Field(
        [], description="pin-sha256 of keys, one of which the served chain must have"
    )
    tls: Literal["modern", "intermediate"] | None = Field(
        None, description="which of Mozilla's guidelines for TLS it must follow, judged by sslyze"
    )
    hsts: Header | None = Field(
        None,
        description="the Strict-Transport-Security header that it must serve",
        examples=["max-age=31536000; includeSubDomains"],
    )

    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.at.host,
            self.at.port,
            self.sni,
            self.starttls,
            tuple(self.addresses),
            self.roots,
            tuple(self.pins),
            self.tls,
            self.hsts,
        )


_WORDING = Wording(EndpointTable, {"at": "it says which server is looked at"})


def _table(raw: dict[str, Any], info: ValidationInfo) -> Endpoint:
    try:
        table = EndpointTable.model_validate(raw, context=info.context)
    except ValidationError as error:
        raise ValidationError.from_exception_data(
            error.title, [_worded(detail) for detail in error.errors(include_url=False)]
        ) from None
    if table.hsts and table.starttls:
        why = "only HTTPS has that header, which knows no STARTTLS"
        raise mistake(ConfigError("hsts and starttls are both there", why, "leave out one of them"))
    if table.tls and located("sslyze") is None:
        todo = "install it: pip install 'certd[sslyze]', or by itself: pipx install sslyze"
        lack = NotHere("there is no program sslyze", f"it judges tls = {shown(table.tls)}", todo)
        note_lacking(info, "verify", lack)
    return table.endpoint()


def _worded(detail: Any) -> InitErrorDetails:
    """With its words already: who shows it knows the keys of the table around this one only."""
    what, why, todo = _WORDING.words(detail)
    key = str(detail["loc"][0]) if detail["loc"] else ""
    words = ConfigError(f"{key}: {what}" if key else what, why, todo)
    return InitErrorDetails(type=mistake(words), loc=detail["loc"], input=detail["input"])


def _schema(_source: Any, handler: Any) -> CoreSchema:
    plain, table = handler.generate_schema(HostPort), handler.generate_schema(EndpointTable)

    def check(value: Any, inner: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict):
            return _table(value, info)
        if not isinstance(value, str):
            what = f"expected a string or a table, found {found(value)}"
            raise mistake(ConfigError(what, "", _FORM))
        return inner(value)

    return core_schema.with_info_wrap_validator_function(
        check,
        plain,
        json_schema_input_schema=core_schema.union_schema([plain, table]),
        serialization=core_schema.to_string_ser_schema(),
    )


Served = Annotated[Endpoint, GetPydanticSchema(_schema)]
