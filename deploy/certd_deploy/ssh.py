"""Files on another machine, by SSH: the layout of the disk target, and a command that reloads.

SFTP alone is enough for the files (https://man.openbsd.org/sftp-server, and OpenSSH's file PROTOCOL
for its extensions); the command is run by the user's shell there, each word of it quoted.
The library is asyncssh (https://asyncssh.readthedocs.io/en/latest/api.html) and not paramiko: both
are well kept, but with asyncssh a file has its mode from the moment that it exists and is forced
to the disk (fsync@openssh.com), neither of which paramiko's client can, and it is typed.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from certd.api import (
    Bundle,
    ConfigError,
    Pair,
    Secret,
    SecretReference,
    TargetBusy,
    TargetError,
    failpoint,
    plain,
    said,
)
from certd_deploy import command, settings, sshchecks
from certd_deploy.pem import pair_fingerprint
from certd_deploy.settings import setting
from certd_deploy.sftp import RemoteFolder, contents

if TYPE_CHECKING:
    import asyncssh

_T = TypeVar("_T")
_SECONDS = 30.0  # for the connection, and for all that is done to files
_MOST_OUTPUT = 64 * 1024  # bytes kept of what the command writes, the last ones


@dataclass(frozen=True, slots=True)
class SSH:
    """PEM files on another machine, and a command there that makes the server read them."""

    credential: ClassVar[str] = (
        "`ssh-keygen -t ed25519`, its public half in ~/.ssh/authorized_keys of a user there who"
        " may write to path and run reload, and nothing else; `restrict` before it"
    )

    host: str = field(
        metadata=setting(
            sshchecks.check_host, "name or address of the machine", example="web.example.com",
            missing="it is where the files go",
        )
    )  # fmt: skip
    user: str = field(
        metadata=setting(None, "user there", example="certd", missing="somebody has to log in")
    )
    path: str = field(
        metadata=setting(
            sshchecks.check_path, "folder there of one certificate's files; {name} is its name",
            example="/etc/ssl/certd/{name}", missing="every ssh target needs a folder",
        )
    )  # fmt: skip
    host_key: str | None = field(
        default=None,
        metadata=setting(
            sshchecks.check_host_key, "its public key; without it the one seen is told and refused",
            example="ssh-ed25519 AAAA…",
        ),
    )  # fmt: skip
    port: int = field(default=22, metadata=setting(settings.check_port, "port of its SSH server"))
    key: SecretReference | None = field(
        default=None,
        metadata=setting(None, "private key to log in with, in any form of OpenSSH's"),
    )
    passphrase: SecretReference | None = field(
        default=None, metadata=setting(None, "what the private key is encrypted with")
    )
    agent: Path | None = field(
        default=None,
        metadata=setting(None, "socket of an agent that has the key", example="/run/agent.sock"),
    )
    mode: str = field(
        default="0600",
        metadata=setting(settings.check_mode, "mode of the private key, in octal", example="0640"),
    )
    owner: int | None = field(
        default=None,
        metadata=setting(settings.check_id_elsewhere, "number of the user that the files are of"),
    )
    group: int | None = field(
        default=None,
        metadata=setting(settings.check_id_elsewhere, "number of the group that the files are of"),
    )
    reload: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            sshchecks.check_reload, "program and arguments that make the server read them"
        ),
    )
    reload_timeout: float = field(
        default=60.0,
        metadata=setting(command.check_timeout, "seconds after which the command is ended"),
    )

    def __post_init__(self) -> None:
        if (self.key is None) == (self.agent is None):
            what = "key and agent are both set" if self.key else "neither key nor agent is set"
            raise ConfigError(what, "one of them is what certd logs in with", "write one")

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and run the reload command, also if it is in place already."""

        async def put(connection: asyncssh.SSHClientConnection) -> None:
            number = int(self.mode, 8)
            ids = [-1 if one is None else one for one in (self.owner, self.group)]
            files = contents(bundle, number, ids[0], ids[1])
            async with self._files(connection, bundle.name) as folder:
                await folder.put(bundle.version, files)
            if self.reload:
                await self._reload(connection, bundle)
            failpoint("ssh: reloaded")

        self._do(f"version {bundle.version} is not in place on {self.host}", put)

    def serving(self, name: str) -> str:
        """The fingerprint of what is in place there; "" if it is no working pair."""
        found = self._pair(name)
        return "" if found is None else pair_fingerprint(*found)

    def recover(self, name: str) -> Pair | None:
        found = self._pair(name)
        return None if found is None else Pair(found[0], Secret(found[1]))

    def place(self, name: str) -> str:
        return f"{self.host}:{self.port}:{self._path(name)}"

    def _path(self, name: str) -> str:
        return self.path.replace(settings.PLACEHOLDER, name)

    def _pair(self, name: str) -> tuple[str, str] | None:
        async def read(connection: asyncssh.SSHClientConnection) -> tuple[str, str] | None:
            async with self._files(connection, name) as folder:
                return await folder.pair()

        return self._do(f"{self.place(name)} cannot be read", read)

    def _do(self, what: str, act: Callable[[asyncssh.SSHClientConnection], Awaitable[_T]]) -> _T:
        """One connection, and what is done with it; every failure explained.

        Raises:
            TargetError, TargetBusy: with ``what`` for what happened.
        """
        try:
            import asyncssh
        except ImportError:
            todo = "pip install 'certd[ssh]'"
            raise TargetError("there is no SSH library here", "asyncssh is missing", todo) from None

        async def connected() -> _T:
            async with self._connection(what) as connection:
                return await act(connection)

        try:
            return asyncio.run(connected())
        except TimeoutError:
            raise TargetBusy(what, f"{self.host} does not answer in time") from None
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
            raise TargetBusy(what, f"{self.host} was lost in the middle of it") from None
        except asyncssh.SFTPError as error:
            raise TargetError(
                what, plain(f"{self.path}: {error.reason}"), _advice(error)
            ) from error
        except asyncssh.PermissionDenied:
            todo = f"put the public key into ~{self.user}/.ssh/authorized_keys there"
            raise TargetError(what, f"{self.host} refuses user {self.user}", todo) from None
        except (OSError, asyncssh.Error) as error:
            raise TargetBusy(what, plain(f"{self.host}: {error}")) from error

    @contextlib.asynccontextmanager
    async def _connection(self, what: str) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Nothing but the settings counts: no ~/.ssh, no agent of the environment."""
        import asyncssh

        seen: list[asyncssh.SSHKey] = []
        pinned = [] if self.host_key is None else [asyncssh.import_public_key(self.host_key)]

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(
                self, host: str, addr: str, port: int, key: asyncssh.SSHKey
            ) -> bool:
                seen.append(key)
                return key in pinned

        # Its kind first; any other is asked for too, so that a stranger's key can be told.
        first = ",".join(name.decode() for key in pinned for name in key.sig_algorithms)
        keys = [] if self.key is None else [self._private_key(self.key)]
        try:
            opening = asyncssh.connect(
                self.host,
                self.port,
                config=None,
                username=self.user,
                client_factory=Client,
                client_keys=keys,
                agent_path=None if self.agent is None else str(self.agent),
                known_hosts=([], [], []),  # none: Client says which is right
                server_host_key_algs=f"^{first}" if first else "default",
                preferred_auth="publickey",
                connect_timeout=_SECONDS,
                login_timeout=_SECONDS,
                keepalive_interval=10,
            )
            connection = await opening
        except asyncssh.HostKeyNotVerifiable:
            raise self._stranger(what, seen) from None
        async with connection:
            yield connection

    def _private_key(self, reference: SecretReference) -> asyncssh.SSHKey:
        import asyncssh

        passphrase = None if self.passphrase is None else self.passphrase.fetch().reveal()
        try:
            return asyncssh.import_private_key(reference.fetch().reveal(), passphrase)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            todo = "correct key or passphrase"
            raise TargetError("the private key cannot be used", str(error), todo) from None

    def _stranger(self, what: str, seen: list[asyncssh.SSHKey]) -> TargetError:
        if not seen:
            return TargetError(what, f"{self.host} shows no host key that certd knows")
        line = seen[0].export_public_key().decode().strip()
        shown = f"{seen[0].get_fingerprint()} ({line})"
        if self.host_key is None:
            todo = f'compare it with the machine\'s own; if it is that, write host_key = "{line}"'
            return TargetError(what, f"host_key is not set; {self.host} shows {shown}", todo)
        why = f"{self.host} shows another host key than host_key: {shown}"
        return TargetError(what, why, "find out who answers there; if it has a new key, write that")

    @contextlib.asynccontextmanager
    async def _files(
        self, connection: asyncssh.SSHClientConnection, name: str
    ) -> AsyncIterator[RemoteFolder]:
        async with asyncio.timeout(_SECONDS), connection.start_sftp_client() as sftp:
            yield RemoteFolder(sftp, self._path(name))

    async def _reload(self, connection: asyncssh.SSHClientConnection, bundle: Bundle) -> None:
        """Run the command to its end; SSH knows no argv, so each word is quoted for the shell."""
        import asyncssh

        variables = {
            "CERTD_NAME": bundle.name,
            "CERTD_VERSION": str(bundle.version),
            "CERTD_PATH": self._path(bundle.name),
        }
        words = ["env", *(f"{key}={value}" for key, value in variables.items()), *self.reload]
        what = f"version {bundle.version} is in place on {self.host} but not taken up"
        written = b""
        async with connection.create_process(
            shlex.join(words), stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding=None
        ) as process:
            try:
                async with asyncio.timeout(self.reload_timeout):
                    while chunk := await process.stdout.read(_MOST_OUTPUT):
                        written = (written + chunk)[-_MOST_OUTPUT:]
                    await process.wait_closed()
            except TimeoutError:
                process.kill()
                # Not the channel alone, whose end is waited for: OpenSSH passes no signal to
                # a forced command, nor to what sudo has made root's, and that may run for ever.
                connection.close()
                why = (
                    f"{self.reload[0]} did not end within {self.reload_timeout:g} s{said(written)}"
                )
                raise TargetError(what, why, "see why it hangs, or raise reload_timeout") from None
        if process.exit_status != 0:
            how = process.exit_signal[0] if process.exit_signal else process.exit_status
            why = f"{self.reload[0]} ended with {how}{said(written)}"
            raise TargetError(what, why, "run the command there by hand to see what it lacks")


def _advice(error: asyncssh.SFTPError) -> str:
    import asyncssh

    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return "let the user write there"
    if isinstance(error, asyncssh.SFTPNoSuchFile):
        return "make the folder above it there"
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return "use an SSH server that can replace files in one step, as OpenSSH's can"
    return "look whether there is room, and whether anything is in its way"
