#!/bin/sh
# Makes .venv with certd in it (editable); "tools/setup.sh dev" with what tests and checks need too.
# Does nothing when pyproject.toml is as it was. PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

extra="${1:-}"
stamp=.venv/.certd-setup

# What the environment was made from: with the development extra it serves the plain request too.
made_from() { printf '%s %s\n' "$(cksum <pyproject.toml)" "$1"; }
if [ -x .venv/bin/python ] && [ -f "$stamp" ]; then
    have=$(cat "$stamp")
    if [ "$have" = "$(made_from "$extra")" ] || [ "$have" = "$(made_from dev)" ]; then exit 0; fi
fi

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

python=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "certd needs Python 3.11 or later, and found none." \
    "Install one (Debian 12: apt-get install python3) or name one: make PYTHON=/path/to/python …"

has_pip_to_give() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

# Debian keeps pip's wheel, and the module that puts it into a new environment, in packages of
# their own. Without root the wheel can still be had: downloaded, unpacked, never installed.
fetch_pip() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    (
        cd "$work"
        set -- -q -o Dir::State="$work" -o Dir::State::Lists="$work/lists" \
            -o Dir::State::Status=/var/lib/dpkg/status -o Dir::Cache="$work/cache" \
            -o Acquire::Languages=none
        [ "$(id -u)" -ne 0 ] || set -- "$@" -o APT::Sandbox::User=root
        apt-get "$@" update && apt-get "$@" download python3-pip-whl && dpkg-deb -x ./*.deb .
    ) >&2 || return 1
    set -- "$work"/usr/share/python-wheels/pip-*.whl
    [ -f "$1" ] && wheel=$1
}

make_environment() {
    if ! has_pip_to_give && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "Installing python3-venv …" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -q update && apt-get -q install -y --no-install-recommends python3-venv; } >&2 ||
            echo "python3-venv could not be installed: trying without" >&2
    fi
    if has_pip_to_give; then
        "$python" -m venv --clear .venv
    elif command -v apt-get >/dev/null && fetch_pip; then
        "$python" -m venv --clear --without-pip .venv
        .venv/bin/python "$wheel/pip" install -q --no-index "$wheel"
    else
        fail "$python cannot make an environment: it lacks ensurepip or venv." \
            "Install them (Debian 12: apt-get install python3-venv) or name another Python:" \
            "make PYTHON=/path/to/python …"
    fi
}

.venv/bin/python -c 'import pip' 2>/dev/null || make_environment
echo "Installing certd into .venv …" >&2
.venv/bin/python -m pip install -q --disable-pip-version-check -e ".${extra:+[$extra]}" ||
    fail "pip could not install certd's dependencies: see above." \
        "It takes them from the index that pip is configured for (pip config list)."
# A judge of the tests that wants other versions of libraries than certd has: beside it, not in it.
if [ "$extra" = dev ] && [ ! -x .venv/sslyze/bin/sslyze ]; then
    .venv/bin/python -m venv --without-pip .venv/sslyze &&
        .venv/bin/python -m pip --python .venv/sslyze/bin/python install -q \
            --disable-pip-version-check "sslyze>=6.3" ||
        echo "tests will be skipped for lack of: sslyze" >&2
fi
made_from "$extra" >"$stamp"
