#!/bin/sh
# Other trainers, each in an environment of its own below FOLDER, for the tests in tests/contracts and the benchmark
# benchmarks/exports.py. They pin versions that exclude each other. No GPU is needed; where there is none, PyTorch is
# the build for processors.
#
#   sh tools/install_peers.sh FOLDER [PYTHON]
set -eu
folder=$1
python=${2:-python3}
mkdir -p "$folder/wheels"

install() {
    name=$1
    shift
    [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
    sh "$(dirname "$0")/install_torch.sh" "$folder/$name/bin/python"
    "$folder/$name/bin/python" -m pip --disable-pip-version-check install -q "$@"
}

install axolotl axolotl==0.19.0
install llamafactory llamafactory==0.9.5
install ms-swift ms-swift==4.6.0
install trl trl==1.16.0 "peft>=0.21" "transformers>=5.20"
install torchtune torchtune==0.6.1 torchao==0.10.0
install litgpt litgpt==0.5.13 torchmetrics
install mlx mlx==0.32.2 mlx-cpu==0.32.2 "mlx-lm[train]==0.32.2"

# These need a GPU to be imported: their source is read instead.
"$python" -m pip --disable-pip-version-check download -q --no-deps -d "$folder/wheels" \
    unsloth==2026.10.9 trl==1.15.0 transformers==5.17.0
