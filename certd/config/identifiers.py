"""PURE: the small languages inside a configuration's strings: names, addresses, URLs.

Each function takes the operator's text and gives a value, or raises ConfigError with
what, why and next, as it is to be shown.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import urlsplit

from certd.config.findings import shown
from certd.errors import ConfigError
from certd.model import Identifier, Subtree
from certd.secrets import Secret

# Letters, digits, hyphens (RFC 5890 section 2.3.1); 63 a label (RFC 1035 section 2.3.4).
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
# What nearly every name looks like, so that 10,000 certificates load in well under a second.
_PLAIN = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_LONGEST_DNS_NAME = 253  # characters, without the root's dot
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTACT = re.compile(r"[a-z][a-z0-9+.-]*:[^\s]+", re.IGNORECASE)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ATOM = r"[A-Za-z0-9!$%&'*+/=^_`{|}~-]+"  # RFC 6068 section 2: what a URL can have of RFC 5322's
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")


def identifier(text: str) -> Identifier:
    """A name or IP address to certify, in the one form that compares.

    Lower-case, without the root's dot, non-ASCII labels as A-labels (RFC 5891), IP
    addresses in their shortest form.
    """
    if _PLAIN.fullmatch(text) and len(text) <= _LONGEST_DNS_NAME and "xn--" not in text:
        return Identifier("dns", text)
    try:
        return Identifier("ip", _ip_address(text))
    except ValueError:
        pass
    if any(mark in text for mark in ("/", ":", "[", "@")) or text.split() != [text]:
        raise ConfigError(
            f"{shown(text)} is neither a name nor an IP address",
            "",
            'write it bare, without scheme, port, path or space: "www.example.com", "2001:db8::1"',
        )
    bare = text[2:] if text.startswith("*.") else text
    name = _dns_name(bare)
    if bare != text and "." not in name:
        raise ConfigError(
            f"{shown(text)} is too wide a wildcard",
            "no CA certifies a whole top-level domain",
            "name a domain below it, such as *.example.com",
        )
    return Identifier("dns", name if bare == text else f"*.{name}")


def subtree(text: str) -> Subtree:
    """What a root permits: ``example.internal`` and all below it, ``10.0.0.0/8``, an address."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "/" in text or ":" in text:
            raise ConfigError(
                f"{shown(text)} is no network",
                str(error),
                'write it as "10.0.0.0/8" or "2001:db8::/32"',
            ) from None
    if text.startswith(("*.", ".")):
        bare = text.lstrip("*.")
        raise ConfigError(
            f"{shown(text)} is more than is needed",
            "a name stands for itself and all below it",
            f"write {shown(bare)}",
        )
    return _dns_name(text)


def host_port(text: str) -> tuple[str, int]:
    """``name:443``, ``192.0.2.1:443`` or ``[2001:db8::1]:443``, taken apart.

    An IPv6 address loses its brackets; a name is normalised as in :func:`identifier`.
    """
    if "/" in text:
        _refuse_url(text)
    host, colon, digits = text.rpartition(":")
    if not colon or not host:
        raise ConfigError(
            f"{shown(text)} is not host:port", "", 'write it as "www.example.com:443"'
        )
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536):
        raise ConfigError(
            f"{shown(text)}: bad port", "a port is a number from 1 to 65535", "correct the port"
        )
    try:
        if host.startswith("[") and host.endswith("]"):
            return str(ipaddress.IPv6Address(host[1:-1])), int(digits)
        return str(ipaddress.IPv4Address(host)), int(digits)
    except ValueError:
        pass
    if any(mark in host for mark in ":[]"):
        raise ConfigError(
            f"{shown(text)}: bad IPv6 address",
            "",
            'write an IPv6 address in brackets: "[2001:db8::1]:443"',
        )
    if host == "*":
        raise ConfigError(
            f"{shown(text)}: * is not an address",
            "",
            f'for every address write "0.0.0.0:{digits}" and "[::]:{digits}"',
        )
    return _dns_name(host), int(digits)


def https_url(text: str) -> str:
    """A CA's directory: an ``https`` URL, and nothing secret in it (RFC 8555 section 6.1)."""
    try:
        url = urlsplit(text)
        right = url.scheme == "https" and bool(url.hostname) and url.port != 0
    except ValueError:
        right = False
    if not right or text.split() != [text] or not text.isprintable():
        raise ConfigError(
            f"{shown(text)} is not an https URL",
            "ACME is spoken over HTTPS only",
            'write it as "https://ca.example/directory"',
        )
    if url.username is not None or url.fragment:
        raise ConfigError(
            "a CA's URL has neither user nor fragment", "", "leave them out of the URL"
        )
    return text


def contact(text: str) -> str:
    """A URL at which the CA may reach the operator (RFC 8555 section 7.3).

    Its scheme is between operator and CA. A mailto: URL is that of one address, without
    header fields (the same section).
    """
    if not _CONTACT.fullmatch(text) or not text.isprintable():
        hint = f"write {shown(f'mailto:{text}')}" if "@" in text else 'write "mailto:you@…"'
        raise ConfigError(f"{shown(text)} is not a contact URL", "", hint)
    if text.lower().startswith("mailto:"):
        objection = _objection_to_address(text.partition(":")[2])
        if objection:
            raise ConfigError(
                f"{shown(text)} is no mail address",
                objection,
                'write it as "mailto:you@example.com"',
            )
    return text


def mac_key(secret: Secret) -> bytes:
    """The key of an external account binding, as CAs give it: base64url, or plain base64.

    Raises:
        ConfigError: it is neither; nothing of it is in the words.
    """
    text = secret.reveal().strip().rstrip("=").translate(str.maketrans("+/", "-_"))
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise ConfigError(
            "the key is not base64url",
            "CAs give it in letters, digits, - and _",
            "copy it anew, whole and alone",
        )
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def segment(text: str) -> str:
    """A name that is safe as one segment of a path, on a command line and in a log."""
    if not _SEGMENT.fullmatch(text) or ".." in text:
        raise ConfigError(
            f"{shown(text)} cannot be a name here",
            "it becomes part of paths",
            "use up to 64 letters, digits, dots, hyphens and underscores, beginning with a "
            "letter or digit, no two dots in a row",
        )
    return text


def _refuse_url(text: str) -> None:
    try:
        url = urlsplit(text if "//" in text else f"//{text}")
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
    except ValueError:
        host = port = None
    raise ConfigError(
        f"{shown(text)} is not host:port",
        "it has a scheme or a path",
        f"write {shown(f'{host}:{port}') if host and port else 'host and port only'}",
    )


def _objection_to_address(address: str) -> str:
    """What is wrong with the mail address of a mailto: URL; empty: nothing."""
    local, _, domain = address.partition("@")
    if "?" in address or "," in address:
        return "a contact is one address, without header fields"
    if address.count("@") != 1 or not domain:
        return "an address has one @, with a domain behind it"
    if not address.isascii():
        return "a URL is ASCII: a domain has its xn-- form"
    if not _LOCAL_PART.fullmatch(local):
        return f"{shown(local)} cannot stand before the @"
    try:
        _dns_name(domain)
    except ConfigError as error:
        return str(error).partition(";")[0]
    return ""


def _ip_address(text: str) -> str:
    address = ipaddress.ip_address(text)
    # A zone such as %eth0 means something on one machine only.
    if "%" in text:
        raise ValueError("an address with a zone cannot be certified")
    return str(address)


def _dns_name(text: str) -> str:
    """The normal form of a DNS name without a wildcard."""
    name = text.lower().removesuffix(".")
    if not name.isascii():
        name = _a_labels(text)
    if len(name) > _LONGEST_DNS_NAME or not _DNS_NAME.fullmatch(name):
        raise ConfigError(f"{shown(text)} is not a DNS name", _objection(name), "correct the name")
    if name.rpartition(".")[2].isdigit():
        raise ConfigError(
            f"{shown(text)} is neither a DNS name nor an IP address",
            "no top-level domain is a number",
            "correct it",
        )
    if "xn--" in name:
        _decodable(text, name)
    return name


def _objection(name: str) -> str:
    """Why the expression for a DNS name did not match this one."""
    if not name:
        return "it is empty"
    if len(name) > _LONGEST_DNS_NAME:
        return f"it is longer than {_LONGEST_DNS_NAME} characters"
    if "_" in name:
        return "CAs certify no name with an underscore"
    if "*" in name:
        return "a wildcard is the whole first label, as in *.example.com"
    for label in name.split("."):
        if not label:
            return "it has an empty label: two dots in a row, or one in front"
        if len(label) > 63:
            return f"the label {label[:12]}… is longer than 63 characters"
        if label.startswith("-") or label.endswith("-"):
            return f"the label {shown(label)} begins or ends with a hyphen"
    return "labels are letters, digits and hyphens"


def _a_labels(text: str) -> str:
    # Only for the few names that need it: the tables behind idna take a while to import.
    import idna

    try:
        # Its time grows faster than the name; nothing valid is longer.
        if len(text) > _LONGEST_DNS_NAME:
            raise idna.IDNAError("it is too long")
        return idna.encode(text, uts46=True).decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:  # IDNAError is one
        raise ConfigError(
            f"{shown(text)} is not an internationalised DNS name",
            shown(str(error))[1:-1],
            "correct the name, or write its xn-- form",
        ) from None


def _decodable(text: str, name: str) -> None:
    for label in name.split("."):
        if label.startswith("xn--"):
            try:
                label[4:].encode("ascii").decode("punycode")
            except (UnicodeError, OverflowError, ValueError):
                raise ConfigError(
                    f"{shown(text)} is not a DNS name",
                    f"{label} is not valid punycode",
                    "correct the name, or write it in its own letters",
                ) from None
