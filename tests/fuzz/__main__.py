"""``python -m tests.fuzz [TARGET …] [--seconds N]``: feed readers with what atheris thinks of.

Each target has a process of its own, for atheris never returns. What breaks one is kept as
``fuzz-TARGET-…`` in the current folder; ``--again FILE`` feeds it once more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# What atheris watches, and so tries to get into. All else would only slow it down.
WATCHED = {
    "pem": ["certd.x509"],
    "der": ["certd.x509"],
    "request": ["certd.x509"],
    "document": ["certd.ca.client", "certd.ca.problem", "certd.ca.resources"],
    "delay": ["certd.ca.problem", "email._parseaddr", "email.utils"],
    "window": ["certd.ca.ari"],
    "answer": ["certd.ca.reading"],
    "settings": ["certd.config", "tomllib"],
    "hello": ["certd.challenges.hello"],
    "reply": ["certd.challenges.reply"],
    "revoked": ["certd.x509"],
}
TOGETHER = "together"  # the target that is all of them, for a run of a few seconds
LARGEST = 1 << 14  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=10, help="for each target")
    parser.add_argument("--again", type=Path, metavar="FILE")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        return fuzz(chosen.targets[0], chosen.seconds)
    if chosen.again:
        from tests.fuzz.strangers import TARGETS

        TARGETS[chosen.targets[0]](chosen.again.read_bytes())
        return 0
    failed = [name for name in chosen.targets or WATCHED if run(name, chosen.seconds)]
    print(f"broken: {', '.join(failed)}" if failed else "nothing broke")
    return bool(failed)


def run(target: str, seconds: float) -> int:
    argv = [sys.executable, "-m", "tests.fuzz", target, f"--seconds={seconds}", "--inside"]
    return subprocess.run(argv, timeout=seconds + 120, check=False).returncode


def fuzz(target: str, seconds: float) -> int:
    """Never returns: the fuzzer ends the process, with status 0 if nothing broke."""
    import atheris

    watched = WATCHED.get(target) or [name for names in WATCHED.values() for name in names]
    with atheris.instrument_imports(include=watched, enable_loader_override=False):
        from tests.fuzz.strangers import TARGETS, together
    from tests.fuzz.seeds import seeds

    with tempfile.TemporaryDirectory(prefix="certd-seeds-") as folder:
        for number, seed in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={max(1, round(seconds))}",
            f"-max_len={LARGEST}",
            "-timeout=10",  # seconds for one input
            "-rss_limit_mb=1024",
            f"-artifact_prefix={os.getcwd()}/fuzz-{target}-",
            "-verbosity=0",
            "-print_final_stats=1",
            folder,
        ]
        atheris.Setup([sys.argv[0], *options], TARGETS.get(target, together))
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
