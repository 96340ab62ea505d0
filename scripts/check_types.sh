#!/usr/bin/env bash
# mypy on the installed wheel from an empty directory, as a user's project sees it. Usage: check_types.sh PYTHON
# The wheel goes into a throw-away environment that sees this environment's packages but not this checkout.
set -euo pipefail
python=$(cd "$(dirname "${1:?usage: check_types.sh PYTHON}")" && pwd)/$(basename "$1")
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/empty"
"$python" "$repo/scripts/build_wheel.py" "$work/dist" >/dev/null
"$python" -m venv --without-pip "$work/venv"
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$site" "$work"/dist/*.whl
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/dependencies.pth"

cd "$work/empty"
"$python" -m mypy --config-file "$repo/pyproject.toml" --cache-dir "$repo/.mypy_cache" \
    --python-executable "$work/venv/bin/python" -p worldplan | sed "s#^$site/##"
