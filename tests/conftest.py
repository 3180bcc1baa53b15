"""What all tests share."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["FINETUNE_EXE_LEDGER"] = os.path.join(tempfile.mkdtemp(prefix="ledger-"), "ledger.jsonl")

settings.register_profile("same-examples", derandomize=True)
settings.load_profile("same-examples")
