"""Compare a text with its golden file; run with UPDATE_GOLDEN=1 to write the file, then read the diff."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def assert_golden(name: str, text: str) -> None:
    """Fail where `text` is not exactly what the golden file `name` holds."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
