"""What says nothing new is passed over, and nothing else is."""

from __future__ import annotations

import io
import resource
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.diagnosis.diagnose import diagnose
from finetune_exe.diagnosis.match import Scan
from finetune_exe.diagnosis.read import Line, read_stream
from finetune_exe.diagnosis.sieve import Kind, Sieve


def scanned(text: str) -> Scan:
    scan, sieve = Scan(), Sieve()
    scan.read(read_stream(io.BytesIO(text.encode()), where="test", sieve=sieve), sieve)
    return scan


def metrics(count: int) -> list[str]:
    return [f"{{'loss': {3 - i / count:.4f}, 'grad_norm': 0.5, 'epoch': {i / 100:.2f}}}" for i in range(count)]


def test_lines_that_differ_in_numbers_alone_are_read_once() -> None:
    sieve = Sieve(everything=False)
    read = []
    for number, raw in sieve.sift(b"\n".join(b"[INFO] step %d took %d ms" % (i, i * i) for i in range(500)), 1):
        read.append(number)
        assert raw.startswith(b"[INFO]")
        sieve.settle(Kind.REPEATED)
    assert read == [1]


def test_a_line_drawn_over_and_over_is_a_metric_line_once_its_pieces_are_known() -> None:
    sieve = Sieve(everything=False)
    text = b"\n".join(b"\r %d%%|###| %d/900\r{'loss': 1.%d}" % (i, i, i) for i in range(900))
    pieces = [raw for _, raw in _settling(sieve, text)]
    assert sum(raw.startswith(b"{'loss'") for raw in pieces) == 900
    assert sum(b"%" in raw for raw in pieces) == 1
    sieve.stride = 10
    assert sum(1 for _ in _settling(sieve, text)) == 90


def _settling(sieve: Sieve, text: bytes) -> list[tuple[int, bytes]]:
    found = []
    for number, raw in sieve.sift(text, 1):
        found.append((number, raw))
        sieve.settle(Kind.METRIC if b"loss" in raw else Kind.REPEATED)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(80, 400), st.integers(0, 400))
def test_an_exception_is_found_wherever_it_stands(count: int, place: int) -> None:
    lines = metrics(count)
    lines[min(place, count) : min(place, count)] = ["Traceback (most recent call last):", '  File "a.py", line 3',
                                                    "KeyError: 'messages'"]  # fmt: skip
    raised = list(scanned("\n".join(lines)).exceptions.decisive())
    assert [(found.type, found.number) for found in raised] == [("KeyError", min(place, count) + 3)]


def test_the_course_of_a_long_run_is_thinned_evenly() -> None:
    series = scanned("\n".join(metrics(60_000))).metrics.series
    losses = series.train
    assert 1000 < len(losses) <= 2049
    assert losses[0] > 2.99
    assert losses[-1] < 2.01
    steps = [a - b for a, b in pairwise(losses)]
    assert max(steps) < 4 * (sum(steps) / len(steps))


def test_every_validation_loss_of_a_long_run_is_kept() -> None:
    lines = metrics(30_000)
    for i in range(300, 30_000, 300):
        lines[i] = f"{{'eval_loss': {2 - i / 30_000:.3f}, 'epoch': {i / 100:.2f}}}"
    assert len(scanned("\n".join(lines)).metrics.series.evaluation) == 99


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    lines = [f"{{'loss': {1 + i % 97 / 1000}, 'learning_rate': 1e-05}}" for i in range(100_000)]
    block = "\r 12%|##  | 3/9 [00:01<00:02]\n".join(lines) + "\n"
    with path.open("w") as file:
        for _ in range(8):
            file.write(block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    diagnose([path])
    assert path.stat().st_size > 40e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


def test_tracebacks_of_several_processes_are_taken_apart() -> None:
    scan = scanned(
        "[rank1]: Traceback (most recent call last):\n[rank0]: Traceback (most recent call last):\n"
        '[rank1]:   File "a.py", line 1, in one\n[rank0]:   File "b.py", line 2, in two\n'
        "[rank1]: KeyError: 'text'\n[rank0]: ValueError: second\n"
    )
    first, second = scan.exceptions.decisive()
    assert (first.source, first.type) == ("[rank1]", "KeyError")
    assert "one" in first.frames[-1]
    assert (second.source, second.type) == ("[rank0]", "ValueError")
    assert "two" in second.frames[-1]


def test_a_chained_exception_is_known_as_one() -> None:
    text = (
        "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'text'\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 2\nRuntimeError: map failed\n'
    )
    assert [found.chained for found in scanned(text).exceptions.decisive()] == [False, True]


def test_lines_come_with_the_process_that_wrote_them() -> None:
    lines = list(read_stream(io.BytesIO(b"[rank3]: a\n(Worker pid=7, ip=10.0.0.2) b\nplain\n"), where="test"))
    assert lines == [
        Line(number=1, text="a", source="[rank3]"),
        Line(number=2, text="b", source="(Worker pid=7, ip=10.0.0.2)"),
        Line(number=3, text="plain"),
    ]
