"""Preparing in shards: same bytes however it is done, and nothing done twice after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl

from finetune_exe.data import launch, shards, spool, workers
from finetune_exe.data.encoded import EncodedConversation, encode_conversations
from finetune_exe.data.prepare import prepare
from finetune_exe.data.shards import ShardJob
from finetune_exe.data.workers import encode_in_processes
from finetune_exe.domain.certificate import MaskCertificate
from finetune_exe.domain.dataset import SPLITS, PreparedDataset
from finetune_exe.errors import RESUMABLE, FineTuneError
from finetune_exe.prepared.shards import read_summary
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.masks import Range
from finetune_exe.text.tokenizer import ChatTokenizer

ROWS: list[Any] = [
    *alpaca_rows(40), {"instruction": "a", "input": "", "output": ""}, alpaca_rows(1)[0],
    {"instruction": "long " * 90, "input": "", "output": "x"}, {"instruction": "b<|im_end|>", "input": "", "output": "y"},
    *({**row, "output": row["output"] + "<|endoftext|>"} for row in alpaca_rows(50)[40:]),
]  # fmt: skip
KILLED = """
import os, signal, sys
from pathlib import Path
from finetune_exe.data import spool
from finetune_exe.data.prepare import prepare
from finetune_exe.text.tokenizer import load_tokenizer
from tests.unit.data.plans import plan_for

def tell(stage, done, total):
    if stage == sys.argv[4] and done > 20:
        os.kill(os.getpid(), signal.SIGKILL)

spool.SHARD_ROWS = 8
plan = plan_for(sys.argv[1], max_length=128)
prepare(plan, load_tokenizer(Path(sys.argv[2]), chat_template=None), Path(sys.argv[3]), progress=tell)
"""


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SHARD_ROWS", 8)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.usefixtures("small_shards")
def test_bytes_are_the_same_for_any_workers_and_any_order(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS), max_length=128)
    prepare(plan, tokenizer, tmp_path / "one", num_workers=1)
    prepare(plan, tokenizer, tmp_path / "two", num_workers=2)

    def backwards(jobs: list[ShardJob], *args: Any, **kwargs: Any) -> None:
        launch.encode_in_processes(jobs[::-1], num_workers=3, told=kwargs["told"])

    monkeypatch.setattr(launch, "encode_here", backwards)
    prepare(plan, tokenizer, tmp_path / "three", num_workers=1)
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")
    monkeypatch.undo()
    monkeypatch.setattr(spool, "SHARD_ROWS", 3)
    prepare(plan, tokenizer, tmp_path / "four")
    assert content(tmp_path / "one") == content(tmp_path / "four"), "whatever the size of a shard"
    assert {entry.name for entry in tmp_path.iterdir()} == {"rows.jsonl", "one", "two", "three", "four"}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("stage", ["encode", "write"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, tokenizer: ChatTokenizer, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    command = [sys.executable, "-c", KILLED, str(path), str(tokenizer.folder), str(tmp_path / "out"), stage]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    unfinished = tmp_path / ".out.unfinished"
    done = {folder.name for folder in unfinished.iterdir() if read_summary(folder) is not None}
    assert len(done) >= 3

    made: list[str] = []
    real = launch.encode_here
    monkeypatch.setattr(
        launch, "encode_here", lambda jobs, *a, **k: (made.extend(j.address for j in jobs), real(jobs, *a, **k))
    )
    plan = plan_for(path, max_length=128)
    prepare(plan, tokenizer, tmp_path / "out", num_workers=1)
    assert not done & set(made), "what was done is not done again"
    assert (len(made) > 0) == (stage == "encode")
    prepare(plan, tokenizer, tmp_path / "clean", num_workers=1)
    assert content(tmp_path / "out") == content(tmp_path / "clean")
    assert not unfinished.exists()


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_made_again(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS), max_length=128)
    prepare(plan, tokenizer, tmp_path / "clean")
    real = launch.encode_here

    def stop_after(jobs: list[ShardJob], *args: Any, **kwargs: Any) -> None:
        real(jobs[:3], *args, **kwargs)
        tokens = jobs[0].target / "tokens.npy"
        tokens.write_bytes(tokens.read_bytes()[:-4] + b"\x01\x00\x00\x00")
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "encode_here", stop_after)
    with pytest.raises(KeyboardInterrupt):
        prepare(plan, tokenizer, tmp_path / "out", num_workers=1)
    monkeypatch.setattr(launch, "encode_here", real)
    prepare(plan, tokenizer, tmp_path / "out", num_workers=1)
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_workers_that_keep_dying_are_named_and_leave_what_is_done(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    (tmp_path / "rows.jsonl").write_text("no row\n")
    job = ShardJob(
        rows=str(tmp_path / "rows.jsonl"), rows_digest="", drawn=None, num_drawn=0, shards=str(tmp_path), model=str(tokenizer.folder),
        chat_template=None, tokenizer_digest="", template_digest="", max_length=9, on_too_long="drop", format_name="alpaca",
    )  # fmt: skip
    assert ShardJob.from_json(job.to_json()) == job
    with pytest.raises(FineTuneError) as caught:
        encode_in_processes([job], num_workers=1, told=lambda job: None)
    assert (caught.value.code, caught.value.exit_status) == ("D31", RESUMABLE)
    assert "DecodeError" in caught.value.why


def test_after_ctrl_c_no_worker_is_begun_again(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    begun: list[subprocess.Popen[str]] = []
    asked, interrupted = threading.Event(), threading.Event()

    def hangs(process: subprocess.Popen[str], job: ShardJob) -> bool:
        begun.append(process)
        asked.set()
        process.wait()  # until it is killed
        interrupted.wait(30)
        return False

    def interrupt(thread: threading.Thread) -> None:
        assert asked.wait(30)
        raise KeyboardInterrupt

    job = ShardJob(
        rows=str(tmp_path / "rows.jsonl"), rows_digest="", drawn=None, num_drawn=0, shards=str(tmp_path),
        model=str(tokenizer.folder), chat_template=None, tokenizer_digest="", template_digest="", max_length=9,
        on_too_long="drop", format_name="alpaca",
    )  # fmt: skip
    monkeypatch.setattr(workers, "_ask", hangs)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encode_in_processes([job], num_workers=1, told=lambda job: None)
    leader = next(thread for thread in threading.enumerate() if "work" in thread.name)
    interrupted.set()
    leader.join(30)
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


@pytest.mark.usefixtures("small_shards")
def test_rows_are_prepared_where_the_system_does_not_say_which_cores_are_ours(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS), max_length=128)
    assert prepare(plan, tokenizer, tmp_path / "out").kept


def killing(monkeypatch: pytest.MonkeyPatch, *, times: int) -> list[int]:
    """Kill workers as the system does where memory runs out, when they get a shard; list the processes."""
    real, killed = workers._ask, list[int]()

    def ask(process: subprocess.Popen[str], job: ShardJob) -> bool:
        if len(killed) < times:
            killed.append(process.pid)
            process.kill()
        return real(process, job)

    monkeypatch.setattr(workers, "_ask", ask)
    return killed


@pytest.mark.usefixtures("small_shards")
def test_a_worker_that_the_system_kills_is_replaced_and_nothing_is_lost(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS), max_length=128)
    prepare(plan, tokenizer, tmp_path / "clean", num_workers=1)
    killed = killing(monkeypatch, times=1)
    prepare(plan, tokenizer, tmp_path / "out", num_workers=2)
    assert len(killed) == 1
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_workers_that_the_system_goes_on_killing_are_told_of_with_their_memory(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, times=9)
    job = ShardJob(
        rows="rows", rows_digest="", drawn=None, num_drawn=0, shards=str(tmp_path), model=str(tokenizer.folder),
        chat_template=None, tokenizer_digest="", template_digest="", max_length=9, on_too_long="drop",
        format_name="alpaca",
    )  # fmt: skip
    with pytest.raises(FineTuneError, match=r"killed from outside.*the largest held [\d.]+ [KMG]iB") as caught:
        encode_in_processes([job], num_workers=1, told=lambda job: None)
    assert (caught.value.code, caught.value.exit_status) == ("D31", RESUMABLE)


def test_what_a_worker_was_refused_is_said_as_it_was_there(tmp_path: Path) -> None:
    job = ShardJob(
        rows="", rows_digest="", drawn=None, num_drawn=0, shards=str(tmp_path), model=str(tmp_path / "none"), chat_template=None,
        tokenizer_digest="", template_digest="", max_length=9, on_too_long="drop", format_name="alpaca",
    )  # fmt: skip
    with pytest.raises(FineTuneError, match="FT-M02"):
        encode_in_processes([job], num_workers=2, told=lambda job: None)


def test_rows_and_learned_tokens_are_all_accounted_for(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS), max_length=128)
    manifest = prepare(plan, tokenizer, tmp_path / "out")
    drops = {drop.code: drop for drop in manifest.dropped}
    assert {code: drop.count for code, drop in drops.items()} == {
        "empty_output": 1, "exact_duplicate": 1, "too_long": 1, "special_token": 1,
    }  # fmt: skip
    assert drops["too_long"].num_learned_tokens == 2, "x and its end"
    assert drops["special_token"].num_learned_tokens is None, "it was not tokenised"
    assert [(change.code, change.count) for change in manifest.altered] == [("end_marker_removed", 10)]
    learned = sum(split.num_learned_tokens for split in manifest.splits.values())
    assert manifest.seen_learned_tokens == learned + 2
    with pytest.raises(ValueError, match="learned tokens seen"):
        PreparedDataset.model_validate(manifest.model_dump() | {"seen_learned_tokens": learned})


def test_rows_that_are_too_long_are_cut_at_the_prompt_and_stay_proven(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    turns = [{"role": role, "content": f"the {word} said {n}"} for n in range(4)
             for role, word in (("user", "fox"), ("assistant", "dog"))]  # fmt: skip
    rows = [
        *({"messages": [{"role": "user", "content": f"fox {n}"}, {"role": "assistant", "content": "the dog"}]} for n in range(9)),
        {"messages": [{"role": "system", "content": "the end"}, *turns]},
        {"messages": [{"role": "user", "content": "begin " + "over " * 60 + "jumps"}, {"role": "assistant", "content": "quick"}]},
        {"messages": [{"role": "user", "content": "fox"}, {"role": "assistant", "content": "lazy " * 80}]},
    ]  # fmt: skip
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(plan_for(path, max_length=70, on_too_long="truncate_prompt"), tokenizer, tmp_path / "out")
    [change] = manifest.altered
    assert (change.code, change.count, manifest.num_altered) == ("prompt_truncated", 2, 2)
    assert [(drop.code, drop.count) for drop in manifest.dropped] == [("too_long", 1)]
    prepared = load_dataset(tmp_path / "out")
    messages, texts = {}, {}
    for name in SPLITS:
        data = prepared.split(name)
        for index, row in enumerate(data.read_rows()):
            messages[row.source] = [m["content"] for m in row.conversation["messages"]]
            tokens, learned = data.sequence(index)
            assert len(tokens) <= 70
            texts[row.source] = tokenizer.decode(tokens[learned].tolist())
    kept = messages[f"{path}:10"]
    assert kept[0] == "the end"
    assert kept[1:] == [turn["content"] for turn in turns[-len(kept) + 1 :]], "the newest turns, whole"
    assert 2 <= len(kept) - 1 < len(turns)
    question, answer = messages[f"{path}:11"]
    assert ("begin " + "over " * 60 + "jumps").endswith(question)
    assert 20 < len(question) < 300
    assert (answer, texts[f"{path}:11"]) == ("quick", "quick<|im_end|>")
    lost = change.num_learned_tokens + (manifest.dropped[0].num_learned_tokens or 0)
    assert change.num_learned_tokens > 0, "the answers in the turns that were cut off"
    assert manifest.seen_learned_tokens == lost + sum(split.num_learned_tokens for split in manifest.splits.values())


def test_rows_that_are_too_long_can_be_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(FineTuneError) as caught:
        prepare(plan_for(path, max_length=128, on_too_long="refuse"), tokenizer, tmp_path / "out")
    assert caught.value.code == "D30"
    assert f"{path}:43" in caught.value.where
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]
    assert prepare(plan_for(path, max_length=700, on_too_long="refuse"), tokenizer, tmp_path / "out").kept == 51


def test_the_certificate_says_what_is_in_the_arrays(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    manifest = prepare(plan_for(write_jsonl(tmp_path / "rows.jsonl", ROWS)), tokenizer, tmp_path / "out")
    certificate = MaskCertificate.read(tmp_path / "out" / "mask_certificate.json")
    assert certificate.holds
    assert certificate.inputs == {"dataset": manifest.digest()}
    assert {claim.name for claim in certificate.claims} == {
        "derivations_agree", "end_of_turn_learned", "prompt_not_learned", "something_learned", "one_bos",
    }  # fmt: skip
    prepared = load_dataset(tmp_path / "out")
    for name in SPLITS:
        data, masks = prepared.split(name), certificate.splits[name]
        assert masks.digest == manifest.splits[name].digest
        assert (masks.num_tokens, masks.num_learned_tokens) == (len(data.tokens), int(data.learned.sum()))
        for index in range(len(data)):
            tokens, learned = data.sequence(index)
            assert learned.any()
            assert not learned[0]
            [last] = [n for n in range(len(tokens)) if learned[n] and (n + 1 == len(tokens) or not learned[n + 1])]
            assert int(tokens[last]) in certificate.stop_token_ids
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [line["row"] for line in rejected if line["code"] == "special_token"] == [ROWS[43]], "as the file has it"


def two_answers(number: int) -> dict[str, Any]:
    turns = [("user", f"Ask {number}"), ("assistant", "It is 0."), ("user", "And?"), ("assistant", f"It is {number}.")]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_every_token_of_every_generation_prompt_is_counted(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    prepare(
        plan_for(write_jsonl(tmp_path / "rows.jsonl", [two_answers(number) for number in range(30)])),
        tokenizer,
        tmp_path / "made",
    )
    certificate = MaskCertificate.read(tmp_path / "made" / "mask_certificate.json")
    [claim] = [claim for claim in certificate.claims if claim.name == "prompt_not_learned"]
    opening = len(tokenizer.encode("<|im_start|>assistant\n").ids)
    assert opening > 1
    assert (claim.num_checked, claim.num_true, claim.holds) == (60 * opening, 60 * opening, True)


def test_one_learned_token_of_a_generation_prompt_is_found_out(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_too_many(*args: Any, **kwargs: Any) -> list[EncodedConversation]:
        first, *others = encode_conversations(*args, **kwargs)
        [sequence] = first.sequences
        start, end = sequence.ranges[1]
        wrong = replace(sequence, ranges=(sequence.ranges[0], Range(start - 1, end)))
        return [replace(first, sequences=(wrong,), num_learned=first.num_learned + 1), *others]

    monkeypatch.setattr(shards, "encode_conversations", one_too_many)
    path = write_jsonl(tmp_path / "rows.jsonl", [two_answers(number) for number in range(30)])
    prepare(plan_for(path), tokenizer, tmp_path / "made", num_workers=1)
    certificate = MaskCertificate.read(tmp_path / "made" / "mask_certificate.json")
    [claim] = [claim for claim in certificate.claims if claim.name == "prompt_not_learned"]
    assert not claim.holds
    assert not certificate.holds
