"""A real Apache that serves a certificate, in a folder of its own and without root."""

from __future__ import annotations

from pathlib import Path

from certd.testing.server import Server, other_group, other_user

# The modules of Debian's apache2-bin.
_CONFIGURATION = """\
ServerRoot {folder}
ServerName localhost
DefaultRuntimeDir {folder}
Mutex fcntl:{folder}
PidFile {folder}/apache2.pid
ErrorLog {folder}/error.log
{modules}
User {user}
Group {group}
StartServers 2
ThreadsPerChild 25
Listen 127.0.0.1:{port}
<VirtualHost *:{port}>
    SSLEngine on
    SSLCertificateFile {fullchain}
    SSLCertificateKeyFile {key}
</VirtualHost>
"""
_MODULES = ("mpm_event", "authz_core", "ssl")


class Apache(Server):
    """Apache. Of a pair that does not match its test says OK, its reload too, and then it ends."""

    package = "apache2-bin"
    program = "apache2"

    def prepare(self) -> None:
        common = [str(self.binary), "-f", str(self.configuration)]
        self.argv = [*common, "-D", "FOREGROUND"]
        self.test_argv = [*common, "-t"]
        self.reload_argv = [*common, "-k", "graceful"]

    def text(self, fullchain: Path, key: Path) -> str:
        return _CONFIGURATION.format(
            folder=self.folder,
            port=self.port,
            user=other_user(),
            group=other_group(),
            modules="\n".join(
                f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
                for name in _MODULES
            ),
            fullchain=fullchain,
            key=key,
        )
