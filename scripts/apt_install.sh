#!/usr/bin/env bash
# Installs Debian packages as root or through a password-free sudo; ends with 1 where neither is there, or apt-get fails.
# Usage: apt_install.sh PACKAGE...
set -euo pipefail
command -v apt-get >/dev/null || exit 1
as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || exit 1
    as_root=(sudo -n "${as_root[@]}")
fi
install=("${as_root[@]}" apt-get install -y -q --no-install-recommends "$@")
# A fresh machine has no package lists yet: fetch them when the first try fails.
"${install[@]}" || { "${as_root[@]}" apt-get update -q && "${install[@]}"; }
