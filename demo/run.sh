#!/usr/bin/env bash
# What `make demo` shows: the suite on a farm, the same suite without one, the golden databases.
set -euo pipefail
cd "$(dirname "$0")"

show() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

show farm run -n 2
show pytest -q
show farm golden show

cat <<'END'

Both runs passed, and both named the one test that leaves a transaction open. So small a suite does
not pay for two more processes; `make bench` measures where a farm does.
END
