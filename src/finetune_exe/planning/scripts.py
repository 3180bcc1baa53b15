"""Scripts that write no space between words."""

from __future__ import annotations

import re

WIDE = r"[\u3040-\u30ff\u3400-\u9fff]"
"""A character of Chinese or Japanese, as a regular expression."""
_SEAM = re.compile(rf"(?<={WIDE})(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?={WIDE})")
"""Where a Latin word stands in such text, as SQL or Python does."""


def spaced(text: str) -> str:
    """Part Latin words from the Chinese or Japanese ones beside them."""
    return _SEAM.sub(" ", text)
