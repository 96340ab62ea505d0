#!/usr/bin/env bash
# install.sh PYTHON: worldplan, editable, with the exact versions of constraints.txt, into PYTHON's environment.
#
# Without an NVIDIA driver the CPU build of torch is taken from PyTorch's own index, where that can be reached: the usual
# build for Linux brings CUDA libraries of several GB, which would lie there unused.
set -euo pipefail
python=$1
driver=${NVIDIA_DRIVER:-/proc/driver/nvidia/version}
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

if [ "$(uname -s)" = Linux ] && [ ! -e "$driver" ] && ! "$python" -c 'import torch' >/dev/null 2>&1; then
    echo "No NVIDIA driver here: installing the CPU build of torch (200 MB)."
    pip install --quiet --timeout 10 --retries 0 --no-deps --index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' constraints.txt)" \
        || echo "PyTorch's index cannot be reached: the usual build will do, but may bring up to 6 GB of CUDA libraries."
fi
echo "Installing worldplan and what it needs, some 2 GB on disk: one to five minutes."
pip install --progress-bar off -c constraints.txt -e '.[test]' | sed -n 's/^Collecting \([^ ;<>=!~[(]*\).*/  \1/p'
