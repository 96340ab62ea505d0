#!/usr/bin/env bash
# Prints a Python 3.11 or 3.12 that can make virtual environments; ends with 1 and a message when there is none.
set -euo pipefail
for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
        >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
cat >&2 <<'MESSAGE'
worldplan needs Python 3.11 or 3.12 with the venv module; none was found on PATH.
  Debian or Ubuntu:  apt-get install python3 python3-venv
  anywhere:          install one with pyenv or uv, then run  make PYTHON=/path/to/python3.11 ...
MESSAGE
exit 1
