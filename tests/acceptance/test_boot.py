"""The shipped units under a real systemd: booted on an overlay of this machine's own root.

Everything is written to memory, in a mount name space that ends with the test; the booted
system has a loopback of its own and no other network. It tries the units by itself, from a
script, and leaves what it saw in a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from certd.testing.processes import Child, ComponentError, NotInstalled

SOURCE = Path(__file__).parents[2]
BOOT_SECONDS = 60.0  # until the script begins; 2 on a quiet machine
TRIAL_SECONDS = 90.0  # until it has ended; 10 on a quiet machine

# Arguments: the folder that is exchanged with the booted system, the interpreter's prefix,
# the site-packages, the source, a name. Nothing below /root or /home is visible to the
# service, so all of it appears below /opt there.
OVERLAY = """\
set -eu
exchange=$1 python=$2 packages=$3 source=$4 name=$5
scope=
if [ ! -d /run/systemd/system ]; then
    # No systemd here that could give it control groups: two boots must not share theirs.
    for groups in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        [ -f $groups/cgroup.procs ] || continue
        mkdir "$groups/$name"
        echo $$ >"$groups/$name/cgroup.procs"
    done
    scope=--keep-unit
    mount -t tmpfs certd /run
fi
memory=$exchange/memory
mkdir "$memory"
mount -t tmpfs -o mode=755 certd "$memory"
mkdir "$memory/upper" "$memory/work" "$memory/root"
cp -R "$exchange/files/." "$memory/upper"
mount -t overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" certd "$memory/root"
contained() {
    systemd-nspawn --quiet --directory="$memory/root" --machine="$name" --register=no $scope \\
        --private-network --link-journal=no --console=pipe --kill-signal=SIGKILL \\
        --bind="$exchange:/opt/exchange" --bind-ro="$python:/opt/python" \\
        --bind-ro="$packages:/opt/packages" --bind-ro="$source:/opt/source" "$@"
}
contained /bin/sh /opt/exchange/install.sh
contained --boot systemd.unit=trial.service
"""

# As systemd/README.md says, but for what pip would have done. A library of an interpreter
# that was moved is found by the linker's cache only.
INSTALL = """\
set -eu
echo /opt/python/lib >/etc/ld.so.conf.d/certd.conf
ldconfig
ln -sf /opt/certd/bin/certd /usr/bin/certd
id certd >/dev/null 2>&1 ||
    useradd --system --home-dir /var/lib/certd --shell /usr/sbin/nologin certd
install -d -o certd -g certd -m 0750 /etc/ssl/certd
runuser -u certd -- certd check
"""

TRIAL = """\
cd /opt/exchange
say() { echo "$1=$2" >>results; }
show() { systemctl show --value -p "$1" certd.service; }
# Until the words stand in what a command says: 10 s at most.
until_says() {
    words=$1 tries=100
    shift
    until "$@" | grep -q -- "$words"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "never said: $words"; return 1; }
        sleep 0.1
    done
    echo yes
}
journal() { journalctl --no-pager -o cat -u certd.service; }
fetch() { /opt/certd/bin/python /opt/exchange/fetch.py; }
shake() { runuser -u certd -- /opt/certd/bin/python - </opt/exchange/shake.py; }

say booted yes
systemctl start certd.socket certd-tls.socket
say before "$(show ActiveState)"
say answer "$(fetch)"
until_says '^active$' show ActiveState >/dev/null
say started "$(show Type) $(show ActiveState) $(show StatusText)"
say tls "$(shake)"
say state "$(stat -c '%a %U' /var/lib/certd)"
say user "$(ps -o user= -p "$(show MainPID)")"
pid=$(show MainPID)
fed=$(show WatchdogTimestampMonotonic)

cp certd-2.toml /etc/certd/certd.toml
say reload "$(systemctl reload certd.service && until_says '^1 certificates' show StatusText)"
echo 'nonsense = ' >>/etc/certd/certd.toml
say wrong "$(systemctl reload certd.service && until_says 'the old one stays' journal)"
say kept "$(until_says '^active$' show ActiveState) $(show StatusText | cut -d, -f1)"

# A feed more than the one that the reload may have been.
for feed in 1 2; do
    tries=100
    while [ "$(show WatchdogTimestampMonotonic)" = "$fed" ] && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    [ $tries -gt 0 ] && say "fed$feed" yes
    fed=$(show WatchdogTimestampMonotonic)
done
[ "$(show MainPID)" = "$pid" ] && say same yes

begun=$(date +%s)
systemctl stop certd.service
[ $(($(date +%s) - begun)) -le 10 ] && say stopped "$(show Result) $(show ExecMainStatus)"

# The configuration is still wrong, and a connection waits: once it is right, it is answered.
fetch >again &
say refused "$(until_says 'status=2' journal)"
cp certd-2.toml /etc/certd/certd.toml
wait
say again "$(cat again)"
journal >journal
say ended yes
sync
systemctl poweroff --force --force
"""

# A request as a CA makes it, for a token that nobody has.
FETCH = """\
import urllib.error, urllib.request
try:
    urllib.request.urlopen("http://127.0.0.1/.well-known/acme-challenge/" + 43 * "A", timeout=20)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
"""

# The same by TLS-ALPN-01, for a challenge that another certd has published.
SHAKE = """\
import secrets, socket, ssl
from datetime import UTC, datetime
from pathlib import Path
from certd.model import Identifier
from certd.secrets import Secret
from certd.store import Store
from certd.x509 import objection
token, host = secrets.token_urlsafe(32), Identifier("dns", "www.example.com")
proof = Secret(f"{token}.{token}")
store = Store.open(Path("/var/lib/certd"))
store.tokens.apart("probe ").publish(token, {token: proof}, datetime.now(UTC), {token: host})
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["acme-tls/1"])
with socket.create_connection(("127.0.0.1", 443), timeout=20) as sock:
    with context.wrap_socket(sock, server_hostname=host.value) as tls:
        print(tls.version(), objection(tls.getpeercert(binary_form=True), host, proof) or "right")
store.close()
"""

TRIAL_UNIT = """\
[Service]
ExecStart=/bin/sh /opt/exchange/trial.sh
StandardOutput=append:/opt/exchange/trial.log
StandardError=inherit
"""

CONFIGURATION = """\
[certd]
state = "/var/lib/certd"
[ca.nobody]
directory = "https://127.0.0.1:9/directory"
agree_tos = true
"""

CERTIFICATE = """\
[certificate.www]
names = ["www.example.com"]
ca = ["nobody"]
"""


def write_all(exchange: Path) -> None:
    """Lay out what is put over the machine's root, and what the booted system reads."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    files = {
        "install.sh": INSTALL,
        "trial.sh": TRIAL,
        "fetch.py": FETCH,
        "shake.py": SHAKE,
        "certd-2.toml": CONFIGURATION + CERTIFICATE,
        "files/etc/certd/certd.toml": CONFIGURATION,
        "files/etc/systemd/system/trial.service": TRIAL_UNIT,
        # A minute is long for a test; the daemon feeds it in half of the time.
        "files/etc/systemd/system/certd.service.d/own.conf": "[Service]\nWatchdogSec=6\n",
        # What a virtual environment and pip make, with everything below /opt.
        "files/opt/certd/pyvenv.cfg": "home = /opt/python/bin\n",
        f"files/opt/certd/lib/{version}/site-packages/certd.pth": (
            "/opt/packages\n/opt/source\n/opt/source/providers\n/opt/source/deploy\n"
        ),
        "files/opt/certd/bin/certd": (
            "#!/opt/certd/bin/python\nimport sys\nfrom certd.cli.main import main\n"
            "sys.exit(main())\n"
        ),
    }
    for name, text in files.items():
        path = exchange / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (exchange / "files/opt/certd/bin/certd").chmod(0o755)
    (exchange / "files/opt/certd/bin/python").symlink_to(f"/opt/python/bin/{version}")
    for unit in ("certd.service", "certd.socket", "certd-tls.socket"):
        shutil.copy(SOURCE / "systemd" / unit, exchange / "files/etc/systemd/system")
    # Laid over the machine's own folders, whose modes they would change.
    for folder in (exchange / "files").rglob("*/"):
        folder.chmod(0o755)


def results(exchange: Path) -> Mapping[str, str]:
    path = exchange / "results"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines)


@contextlib.contextmanager
def control_groups_removed(name: str) -> Iterator[None]:
    """Those that a boot made outlive its last process, which after a kill takes a moment."""
    try:
        yield
    finally:
        root = Path("/sys/fs/cgroup")
        tops = [root / name, root / "systemd" / name, root / "unified" / name]
        deadline = time.monotonic() + 5
        while any(top.exists() for top in tops) and time.monotonic() < deadline:
            for top in tops:
                for group in sorted((top, *top.rglob("*/")), reverse=True):
                    with contextlib.suppress(OSError):
                        group.rmdir()
            time.sleep(0.01)


def boot(exchange: Path) -> Mapping[str, str]:
    """What the units did in a system that was booted with them.

    Raises:
        NotInstalled: this machine, or this user, cannot boot one.
        ComponentError: the trial came to no end.
    """
    if shutil.which("systemd-nspawn") is None:
        raise NotInstalled("systemd-container", "there is no systemd-nspawn", "install it")
    if os.geteuid() != 0:
        raise NotInstalled("the right to boot a container", "not root", "run the tests as root")
    write_all(exchange)
    name = f"certd-{os.getpid()}"
    places: list[str | Path] = [exchange, sys.base_prefix, sysconfig.get_path("purelib"), SOURCE]
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OVERLAY, "overlay"]
    with (
        control_groups_removed(name),
        Child([*words, *places, name], exchange / "console.log") as container,
    ):
        try:
            container.wait_until(lambda: "booted" in results(exchange), BOOT_SECONDS)
        except ComponentError as error:
            raise NotInstalled(
                "a machine that can boot a container", str(error), "try another one"
            ) from error
        container.wait(TRIAL_SECONDS)
    return results(exchange)


def test_a_boot_with_the_shipped_units(tmp_path: Path) -> None:
    seen = boot(tmp_path)
    expected = {
        "booted": "yes",
        "before": "inactive",
        "answer": "404",  # certd's: the connection itself has started it
        "started": "notify active 0 certificates, 0 in progress",
        "tls": "TLSv1.3 right",
        "state": "700 certd",
        "user": "certd",
        "reload": "yes",
        "wrong": "yes",
        "kept": "yes 1 certificates",
        "fed1": "yes",
        "fed2": "yes",
        "same": "yes",
        "stopped": "success 0",
        "refused": "yes",
        "again": "404",
        "ended": "yes",
    }
    assert seen == expected
