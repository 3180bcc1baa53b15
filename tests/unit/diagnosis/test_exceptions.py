"""The exception that says why is found among the reports that one happened."""

from __future__ import annotations

from finetune_exe.diagnosis.exceptions import ExceptionFinder, Raised
from finetune_exe.diagnosis.read import read_text

CHAINED = """\
Traceback (most recent call last):
  File "/app/data.py", line 3, in load
    table = read(path)
            ^^^^^^^^^^
KeyError: 'messages'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/train.py", line 9, in <module>
    main()
datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset
Traceback (most recent call last):
  File "/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
"""


def found(text: str) -> list[Raised]:
    finder = ExceptionFinder()
    for line in read_text(text, where="test"):
        finder.feed(line)
    return list(finder.decisive())


def test_causes_are_told_from_wrappers() -> None:
    (raised,) = found(CHAINED)
    assert (raised.number, raised.text) == (5, "KeyError: 'messages'")
    assert any("data.py" in frame for frame in raised.frames)


def test_ranks_speaking_at_once_are_understood() -> None:
    text = "\n".join(f"[rank1]: {line}" for line in CHAINED.splitlines())
    assert [raised.text for raised in found(text)] == ["KeyError: 'messages'"]


def test_a_message_of_several_lines_is_kept_whole() -> None:
    raised = found("RuntimeError: Error(s) in loading state_dict for X:\n\tsize mismatch for a.lora_A\nINFO done\n")
    assert raised[0].text == "RuntimeError: Error(s) in loading state_dict for X: size mismatch for a.lora_A"


def test_an_exception_needs_no_traceback_above_it() -> None:
    assert [raised.type for raised in found("loading\ntorch.OutOfMemoryError: CUDA out of memory.\n")] == [
        "torch.OutOfMemoryError"
    ]


def test_a_type_of_any_name_counts_inside_a_traceback() -> None:
    text = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    raise Oops\nmylib.Oops: gone\n'
    assert found(text)[0].text == "mylib.Oops: gone"


def test_words_about_errors_are_no_exceptions() -> None:
    assert found("ErrorHandler: started\nThe ValueError was handled\n0 errors\n") == []
