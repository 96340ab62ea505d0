#!/usr/bin/env bash
# Makes sure that frames can be rendered without a screen: installs Mesa's software EGL where it may, otherwise says what
# to run and ends with 1. Usage: ensure_gl.sh PYTHON
set -euo pipefail
python=${1:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=(libegl1 libgl1 libgl1-mesa-dri)

probe() { "$python" "$here/probe_gl.py"; }

probe && exit 0
echo "No headless OpenGL (EGL) on this machine: trying to install ${packages[*]}" >&2
if bash "$here/apt_install.sh" "${packages[@]}" >&2 && probe; then
    exit 0
fi
cat >&2 <<MESSAGE
Frames cannot be rendered: no headless OpenGL was found. Run this line, then the same make command again:
    sudo apt-get update && sudo apt-get install -y ${packages[*]}
Elsewhere install Mesa's EGL and its software driver (Fedora: mesa-libEGL mesa-libGL mesa-dri-drivers).
MESSAGE
exit 1
