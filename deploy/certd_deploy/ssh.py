"""Files on another machine, by SSH: the layout of the disk target, and commands that take it up.

SFTP alone is enough for the files (https://man.openbsd.org/sftp-server, and OpenSSH's file PROTOCOL
for its extensions); a command is run by the user's shell there, each word of it quoted.
The library is asyncssh (https://asyncssh.readthedocs.io/en/latest/api.html) and not paramiko: both
are well kept, but with asyncssh a file has its mode from the moment that it exists and is forced
to the disk (fsync@openssh.com), neither of which paramiko's client can, and it is typed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
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
)
from certd_deploy import command, extra, settings, sshchecks, sshcommand, sshtroubles
from certd_deploy.extra import Extra
from certd_deploy.pem import PAIR, pair_fingerprint, pair_of
from certd_deploy.settings import setting
from certd_deploy.sftp import RemoteFolder
from certd_deploy.versions import contents

if TYPE_CHECKING:
    import asyncssh

_T = TypeVar("_T")
_SECONDS = 30.0  # for the connection, and for all that is done to files


@dataclass(frozen=True, slots=True)
class SSH:
    """PEM files on another machine, and a command there that makes the server read them."""

    credential: ClassVar[str] = (
        "`ssh-keygen -t ed25519`, its public half in ~/.ssh/authorized_keys of a user there who"
        " may write to path, run test and reload, and nothing else; `restrict` before it"
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
    files: dict[str, str] = field(default_factory=dict, metadata=extra.FILES)
    password: SecretReference | None = field(default=None, metadata=extra.PASSWORD)
    test: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            sshchecks.check_command,
            "program and arguments that test its server's configuration, before reload",
        ),
    )
    reload: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            sshchecks.check_command, "program and arguments that make the server read them"
        ),
    )
    reload_timeout: float = field(
        default=60.0,
        metadata=setting(command.check_timeout, "seconds after which either command is ended"),
    )

    def __post_init__(self) -> None:
        if (self.key is None) == (self.agent is None):
            what = "key and agent are both set" if self.key else "neither key nor agent is set"
            raise ConfigError(what, "one of them is what certd logs in with", "write one")
        extra.check_together(self.files, self.password)

    def deploy(self, bundle: Bundle) -> None:
        """Put the bundle in place and run the commands, also if it is in place already."""
        what = f"version {bundle.version} is not in place on {self.host}"

        async def put(connection: asyncssh.SSHClientConnection) -> None:
            ids = [-1 if one is None else one for one in (self.owner, self.group)]
            files = contents(bundle, self._extra, int(self.mode, 8), ids[0], ids[1])
            async with self._files(connection, bundle.name) as folder:
                before = await folder.put(bundle.version, files)
            async with self._back_if_it_fails(bundle.name, before, what):
                await self._run(
                    "test", connection, bundle, f"not taken up: the test on {self.host} refuses it"
                )
                failpoint("ssh: tested")
            await self._run(
                "reload", connection, bundle, f"in place on {self.host} but not taken up"
            )
            failpoint("ssh: reloaded")

        self._do(what, put)

    def serving(self, name: str) -> str:
        """The fingerprint of what is in place there; "" if it is no working pair."""
        there = self._in_place(name, self.files)
        pair = pair_of(there)
        if pair is None or not (found := pair_fingerprint(*pair)):
            return ""
        return found if self._extra.made_of(name, *pair, there) else ""

    def recover(self, name: str) -> Pair | None:
        found = pair_of(self._in_place(name, ()))
        return None if found is None else Pair(found[0], Secret(found[1]))

    def place(self, name: str) -> str:
        return f"{self.host}:{self.port}:{self._path(name)}"

    def _path(self, name: str) -> str:
        return self.path.replace(settings.PLACEHOLDER, name)

    @property
    def _extra(self) -> Extra:
        return Extra(self.files, self.password)

    def _in_place(self, name: str, more: Collection[str]) -> dict[str, bytes]:
        async def read(connection: asyncssh.SSHClientConnection) -> dict[str, bytes]:
            async with self._files(connection, name) as folder:
                return await folder.in_place((*PAIR, *more))

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
                what, plain(f"{self.path}: {error.reason}"), sshtroubles.advice(error)
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
            raise sshtroubles.stranger(what, self.host, self.host_key, seen) from None
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

    @contextlib.asynccontextmanager
    async def _files(
        self, connection: asyncssh.SSHClientConnection, name: str
    ) -> AsyncIterator[RemoteFolder]:
        async with asyncio.timeout(_SECONDS), connection.start_sftp_client() as sftp:
            yield RemoteFolder(sftp, self._path(name))

    @contextlib.asynccontextmanager
    async def _back_if_it_fails(
        self, name: str, before: str | None, what: str
    ) -> AsyncIterator[None]:
        """Whatever fails, the link is again where it was."""
        try:
            yield
        except BaseException:
            # By another connection, for this one is closed over a command that hangs.
            async with self._connection(what) as again, self._files(again, name) as folder:
                await folder.back(before)
            raise

    async def _run(
        self, setting: str, connection: asyncssh.SSHClientConnection, bundle: Bundle, how: str
    ) -> None:
        variables = {
            "CERTD_NAME": bundle.name,
            "CERTD_VERSION": str(bundle.version),
            "CERTD_PATH": self._path(bundle.name),
        }
        what = f"version {bundle.version} is {how}"
        if argv := getattr(self, setting):
            await sshcommand.run(connection, argv, variables, self.reload_timeout, what)
