"""Whatever a file holds, it is reviewed and carried over, or refused with the reason: never a fault of the program."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.unit.review.planted import SOUND

from finetune_exe.errors import FineTuneError
from finetune_exe.review.carry import carry
from finetune_exe.review.configuration import read_configurations
from finetune_exe.review.fit import Room, check_fit
from finetune_exe.review.review import review_configuration

PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
ROOM = Room(gpu="RTX 4090", num_gpus=2, memory_bytes=24 << 30)
PIECES = ("", ": ", "\n", "[", "]", "{", "}", '"', "'", "null", "-1", "1e999", "true", "&a", "*a", "=", "(", ")", "\t",
          "0", ".inf", "# ", "- ", "\\", "\u2028", "\x7f", "nan", "<<: ", "**")  # fmt: skip
DAMAGES = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 40), st.sampled_from(PIECES)), min_size=1, max_size=4
)


def damaged(text: str, damages: list[tuple[int, int, str]]) -> str:
    """Put pieces in the place of others."""
    for at, length, piece in damages:
        place = at % len(text)
        text = text[:place] + piece + text[place + length :]
    return text


@pytest.mark.parametrize("name", list(SOUND))
@given(damages=DAMAGES)
@settings(max_examples=30, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_no_fault_of_the_program(
    name: str, damages: list[tuple[int, int, str]], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(damaged(SOUND[name], damages), encoding="utf-8")
    try:
        configurations = read_configurations(path)
    except FineTuneError:
        return
    lines = path.read_text(encoding="utf-8").count("\n") + 1
    for configuration in configurations:
        review = review_configuration(configuration)
        assert all(1 <= finding.line <= lines and finding.fix and finding.why for finding in review.findings)
        list(check_fit(configuration, ROOM))
        with contextlib.suppress(FineTuneError):
            carry(configuration)
