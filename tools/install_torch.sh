#!/bin/sh
# Install the PyTorch that constraints.txt names into the Python given as $1.
# With an NVIDIA GPU: the build of the package index. Without: a CPU build, from wherever pip looks or PyTorch's own index.
set -eu
python="$1"
torch="$(grep '^torch==' "$(dirname "$0")/../constraints.txt")"
pip="$python -m pip --disable-pip-version-check install -q"

if nvidia-smi >/dev/null 2>&1 || [ "$(uname -s)" != Linux ]; then
    $pip "$torch"
elif ! $pip --no-deps "$torch+cpu" 2>/dev/null; then
    $pip "$torch+cpu" --index-url https://download.pytorch.org/whl/cpu
fi
$pip "$torch"
$python -W ignore -c 'import torch; print("PyTorch", torch.__version__)'
