"""HAProxy, by its Runtime API and by a file: no reload, and no connection is lost.

    global
        stats socket /run/haproxy/admin.sock user haproxy group certd mode 660 level admin
    frontend www
        bind :443 ssl crt /etc/ssl/certd/www/current/haproxy.pem      # or: ssl crt-list …/list

What the API is given is in the memory of the running process, under the name that the
configuration has for the file, and gone with it: so the file is written too, for the next one.
https://www.haproxy.com/documentation/haproxy-runtime-api/reference/set-ssl-cert/ (and ``new``,
``show``, ``commit``, ``abort ssl cert``, ``add``, ``show ssl crt-list``), HAProxy 2.2 or later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from certd.api import Bundle, ConfigError, TargetError, failpoint, said
from certd_deploy.disk import Disk, preset
from certd_deploy.runtime import Runtime
from certd_deploy.settings import check_has

_FILE = "haproxy.pem"
_ENDS_A_WORD = re.compile(r"[\s;\\<*]")


@dataclass(frozen=True, slots=True)
class HAProxy(Disk):
    """Files, of which one holds all three, and the process that is to have the same in memory."""

    credential: ClassVar[str] = (
        "a `stats socket` with `level admin` in HAProxy's `global` section, whose group certd's "
        "user is in; no lower level may change certificates"
    )

    files: dict[str, str] = preset("files", {_FILE: "combined"})  # noqa: RUF009 - a field
    test: tuple[str, ...] = preset(
        "test", ("haproxy", "-c", "-q", "-f", "/etc/haproxy/haproxy.cfg")
    )
    socket: Path = field(
        default=Path("/run/haproxy/admin.sock"),
        metadata={"description": "stats socket of HAProxy, with level admin"},
    )
    crt_list: Path | None = field(
        default=None,
        metadata={
            "description": "crt-list that a certificate is added to which HAProxy does not have",
            "example": "/etc/haproxy/crt-list",
        },
    )

    def __post_init__(self) -> None:
        Disk.__post_init__(self)
        for setting, path in (("path", self.path), ("crt_list", self.crt_list)):
            if path is not None and _ENDS_A_WORD.search(str(path)):
                raise ConfigError(
                    f'{setting} = "{path}" has a character that HAProxy\'s Runtime API cannot take',
                    "there a space ends a word, a semicolon a command",
                    "use another folder",
                )
        check_has(self.files, _FILE, "combined", "what HAProxy reads when it starts")

    def serving(self, name: str) -> str:
        """The fingerprint in place; if HAProxy has another in memory, the SHA-1 of that."""
        there = Disk.serving(self, name)
        pair = self.recover(name) if there else None
        if pair is None:
            return there
        shown = Runtime(self.socket, f"HAProxy's certificate {name} is not known").show(
            self._stored(name)
        )
        return there if shown.sha1 == _sha1(pair.fullchain_pem) else shown.sha1

    def _stored(self, name: str) -> str:
        """What HAProxy calls it: the path as its configuration has it."""
        if _ENDS_A_WORD.search(name):
            raise TargetError(f"HAProxy cannot be told of {name!r}", "", "rename the certificate")
        return f"{self.place(name)}/current/{_FILE}"

    def _try(self, bundle: Bundle, *, replaces: bool) -> None:
        """Of the first one the files stay, whatever HAProxy says: it may not start without."""
        Disk._try(self, bundle, replaces=replaces)
        if replaces:
            self._have_it_taken(bundle, f"version {bundle.version} is not in place")

    def _reload(self, bundle: Bundle) -> None:
        """Where it has been taken, that is seen; the first one is now."""
        Disk._reload(self, bundle)
        self._have_it_taken(bundle, f"version {bundle.version} is in place but not taken up")

    def _have_it_taken(self, bundle: Bundle, failed: str) -> None:
        what = f"{failed}: HAProxy does not take it"
        runtime, stored = Runtime(self.socket, what), self._stored(bundle.name)
        with runtime.alone():
            shown = runtime.show(stored)
            if not shown.there and self.crt_list is None:
                raise TargetError(
                    what,
                    f"it has no certificate {stored}",
                    f"write `bind :443 ssl crt {stored}` in its configuration and start it once "
                    "more, or crt_list = … here",
                )
            if not shown.there:
                runtime.expect("new ssl cert", stored, "New empty certificate store")
                failpoint("haproxy: certificate store made")
            if not shown.has(_sha1(bundle.leaf_pem), bool(bundle.chain_pem)):
                _send(runtime, stored, bundle)
            if self.crt_list is not None:
                _list(runtime, self.crt_list, stored, what)


def _send(runtime: Runtime, stored: str, bundle: Bundle) -> None:
    """Put it into the process's memory, in a transaction whose content is looked at first."""
    wanted, chain = _sha1(bundle.leaf_pem), bool(bundle.chain_pem)
    text = bundle.leaf_pem + bundle.chain_pem + bundle.key_pem.reveal()
    # An empty line ends the payload: of what comes after one HAProxy would make commands,
    # and say of what came before "Transaction created".
    payload = "\n".join(line for line in text.splitlines() if line.strip())
    runtime.refuse_foreign(stored)
    try:
        runtime.expect("set ssl cert", stored, f" for certificate {stored}!", payload)
        failpoint("haproxy: transaction created")
        if not runtime.show(f"*{stored}").has(wanted, chain):
            why = "what it holds in its transaction is not what was sent"
            raise TargetError(runtime.what, why, "see who else writes to its socket")
        answer = runtime.ask(f"commit ssl cert {stored}")
        # Not the answer, which may be lost: what it has now.
        if not runtime.show(stored).has(wanted, chain):
            why = f"it has another still after `commit ssl cert {stored}`{said(answer.encode())}"
            raise TargetError(runtime.what, why, "see its log")
    except TargetError:
        with contextlib.suppress(TargetError):
            runtime.ask(f"abort ssl cert {stored}")
        raise
    failpoint("haproxy: transaction committed")


def _list(runtime: Runtime, crt_list: Path, stored: str, what: str) -> None:
    """Have it in the list, in memory and in the file."""
    if stored not in runtime.words(f"show ssl crt-list {crt_list}"):
        runtime.expect("add ssl crt-list", f"{crt_list} {stored}", "Success!")
        failpoint("haproxy: added to the list in memory")
    try:
        text = crt_list.read_text()
        if stored not in (line.partition(" ")[0].partition("[")[0] for line in text.splitlines()):
            with crt_list.open("a") as stream:
                stream.write(stored + "\n" if text.endswith("\n") or not text else f"\n{stored}\n")
                stream.flush()
                os.fsync(stream.fileno())
    except (OSError, ValueError) as error:
        raise TargetError(
            what,
            f"{crt_list}: {getattr(error, 'strerror', None) or error}",
            "let certd's user write there; under systemd also name it in ReadWritePaths=",
        ) from error
    failpoint("haproxy: added to the list")


def _sha1(pem: str) -> str:
    """All that HAProxy shows of a certificate: a name for it, of which no security depends."""
    end = "-----END CERTIFICATE-----"
    first = pem.strip().partition(end)[0] + end
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(first), usedforsecurity=False).hexdigest()
