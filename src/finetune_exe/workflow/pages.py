"""Write pages for a browser beside the documents they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.atomic import write_file
from finetune_exe.domain.dataset import CheckReport, LabelCount, PreparedDataset
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from finetune_exe.text.tokenizer import ChatTokenizer

PAGE = "report.html"
"""The page inside the folder of a prepared dataset."""
ROWS_SHOWN = 3
"""Rows shown token by token."""


def write_check_page(
    report: CheckReport,
    page: Path,
    *,
    paths: Sequence[str],
    columns: Mapping[str, str],
    tokenizer: ChatTokenizer | None,
) -> None:
    """Write what a check found; with a tokenizer, the first rows are shown token by token.

    Raises:
        FineTuneError: I01 where it cannot be written.
    """
    from finetune_exe.report.html.check import check_page
    from finetune_exe.workflow.token_rows import rows_of_files

    rows = []
    if tokenizer is not None:
        try:
            rows = rows_of_files(paths, tokenizer, num_rows=ROWS_SHOWN, columns=columns)
        except FineTuneError:
            rows = []  # what is wrong with the files stands in the report
    write_file(page, check_page(report, rows))


def write_dataset_page(
    dataset: PreparedDataset, folder: Path, tokenizer: ChatTokenizer, page: Path, *, labels: Sequence[str] = ()
) -> None:
    """Write the account of a prepared dataset, with its certificate and its first rows.

    Args:
        dataset: Its manifest.
        folder: Where it lies.
        tokenizer: The one it was encoded with.
        page: The file to write.
        labels: Answers to be counted among its rows; none where the answers are no labels.

    Raises:
        FineTuneError: D05 where the dataset is not whole; I01 where the page cannot be written.
    """
    from finetune_exe.data.certificate import CERTIFICATE
    from finetune_exe.domain.certificate import MaskCertificate
    from finetune_exe.report.html.dataset import dataset_page
    from finetune_exe.workflow.token_rows import rows_of_dataset

    path = folder / CERTIFICATE
    certificate = MaskCertificate.read(path) if path.is_file() else None
    rows = rows_of_dataset(folder, tokenizer, num_rows=ROWS_SHOWN)
    write_file(page, dataset_page(dataset, certificate, rows, count_answers(folder, labels)))


def count_answers(folder: Path, labels: Sequence[str]) -> tuple[LabelCount, ...]:
    """Count how many rows of a prepared dataset are answered by each label, most frequent first.

    Raises:
        FineTuneError: D05 where the dataset is not whole.
    """
    from finetune_exe.prepared.store import load_dataset

    if not labels:
        return ()
    data, wanted = load_dataset(folder), {*labels}
    counts: Counter[str] = Counter()
    for split in data.manifest.splits:
        answers = (row.conversation["messages"][-1]["content"] for row in data.split(split).stream_rows())
        counts.update(answer for answer in answers if answer in wanted)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(LabelCount(label=label, count=count) for label, count in ordered)
