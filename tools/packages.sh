#!/bin/sh
# Installs what tools/debian-packages.txt lists and this machine lacks. Never fails: what cannot
# be had is named here, skipped by name in the tests, and an error there under CI=true.
set -u
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"

missing=""
while read -r package command _; do
    case "$package" in ''|'#'*) continue ;; esac
    command -v "$command" >/dev/null || missing="$missing $package"
done <tools/debian-packages.txt
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tests will be skipped for lack of:$missing (on Debian: sudo apt-get install$missing)" >&2
    exit 0
fi

# A server that is installed for tests must not start, let alone take port 80. The ban ends with
# this script even if it is killed before it can remove the file.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n[ ! -d /proc/%s ] || exit 101\n' "$$" >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1

apt-get -q update || echo "apt-get update failed: trying with what apt knows" >&2
# One at a time if all at once fails: one bad package must not keep the others away.
# shellcheck disable=SC2086  # a list of words
apt-get -q install -y --no-install-recommends $missing || for package in $missing; do
    apt-get -q install -y --no-install-recommends "$package" ||
        echo "tests will be skipped for lack of: $package" >&2
done
exit 0
