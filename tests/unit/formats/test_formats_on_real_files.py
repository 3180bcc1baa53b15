"""Every real file of a supported format: recognised, read whole, and written back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_exe.data.raw import RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import FORMATS, format_named
from finetune_exe.text.formats.detect import detect_format

FT = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft"
READABLE = {
    "alpaca/alpaca_en_demo.json": ("alpaca", 999),
    "alpaca/lf_identity.json": ("alpaca", 91),
    "alpaca/litgpt_alpaca.json": ("alpaca", 23),
    "alpaca/torchtune_alpaca_tiny.json": ("alpaca", 100),
    "chat/journal_chat.jsonl": ("chatml", 168),
    "chat/lf_v1_sft_demo.jsonl": ("chatml", 500),
    "chat/tinker_conversations.jsonl": ("chatml", 128),
    "chat/toy_chat_fine_tuning.jsonl": ("chatml", 10),
    "chat/xtuner_openai_sft.jsonl": ("chatml", 128),
    "classification/banking77_train.csv": ("prompt_completion", 10003),
    "classification/t0_ag_news_with_choices.jsonl": ("prompt_completion", 200),
    "completion/c4_demo.jsonl": ("completion", 300),
    "completion/tinyshakespeare.txt": ("completion", 56),
    "completion/wiki_demo.txt": ("completion", 19),
    "dolly/litgpt_dolly.json": ("alpaca", 12),
    "misc/litgpt_longform_train.json": ("prompt_completion", 17),
    "misc/unsloth_train_canary.jsonl": ("alpaca", 16),
    "ms_swift/alpaca.csv": ("alpaca", 3),
    "ms_swift/alpaca.jsonl": ("alpaca", 3),
    "ms_swift/chatml.jsonl": ("chatml", 3),
    "ms_swift/swift_multi.json": ("prompt_completion", 3),
    "ms_swift/swift_pre.jsonl": ("completion", 3),
    "ms_swift/swift_single.csv": ("prompt_completion", 3),
    "prompt_completion/dolly_hhrlhf_train_small.jsonl": ("prompt_completion", 496),
    "reasoning/gsm8k_train.jsonl": ("prompt_completion", 3198),
    "rewriting/t0_mrpc_generate_paraphrase.jsonl": ("prompt_completion", 142),
    "sharegpt/axolotl_conversation.json": ("sharegpt", 1),
    "sharegpt/axolotl_conversation.missingturns.json": ("sharegpt", 1),
    "sharegpt/fastchat_dummy_conversation.json": ("sharegpt", 500),
    "sharegpt/glaive_toolcall_en_demo.json": ("sharegpt", 300),
    "summarization/t0_cnn_dailymail_tldr.jsonl": ("prompt_completion", 200),
    "summarization/t0_gigaword_TLDR.jsonl": ("prompt_completion", 200),
    "text2sql/mlx_wikisql_train.jsonl": ("completion", 1000),
    "text2sql/mlx_wikisql_valid.jsonl": ("completion", 100),
    "chat/oasst_en_100_tree.jsonl": ("reply_tree", 53),
    "classification/banking77_categories.json": ("completion", 77),
    "classification/nlupp_banking_fold0.json": ("annotated", 104),
    "classification/sst2_dev.txt": ("prompt_completion", 872),
    "multilingual/tinker_multilingual.txt": ("completion", 1061),
    "multilingual/xcopa_val.et.jsonl": ("multiple_choice", 100),
    "multilingual/xcopa_val.id.jsonl": ("multiple_choice", 100),
    "multilingual/xcopa_val.it.jsonl": ("multiple_choice", 100),
    "multilingual/xcopa_val.sw.jsonl": ("multiple_choice", 100),
    "multilingual/xquad.de.json": ("squad", 1190),
    "ner/dstc8_buses_train_3.json": ("annotated", 141),
    "ner/wnut17_train.conll": ("annotated", 3394),
    "preference/dpo_en_demo.json": ("preference", 300),
    "preference/kto_en_demo.json": ("kto", 300),
    "preference/lf_v1_dpo_demo.jsonl": ("preference", 10),
    "preference/torchtune_hh_rlhf_tiny.json": ("preference", 1),
    "reasoning/xtuner_gsm8k_example.jsonl": ("verified_prompts", 200),
    "seed_tasks/stanford_alpaca_seed_tasks.jsonl": ("seed_tasks", 175),
    "seed_tasks/user_oriented_instructions.jsonl": ("seed_tasks", 252),
    "text2sql/spider_gold.txt": ("completion", 322),
    "text2sql/spider_predict.txt": ("completion", 322),
    "tool/BFCL_v4_simple_python.answer.json": ("function_calls", 400),
    "tool/BFCL_v4_simple_python.json": ("function_calls", 400),
    "tool/apibench_torchhub_eval.json": ("completion", 86),
}


def rows_of(name: str) -> list[Any]:
    if not (FT / name).is_file():
        pytest.skip("the folder of real data is not beside the repository")
    entries = list(read_rows(FT / name))
    assert all(isinstance(entry, RawRow) for entry in entries)
    return [entry.row for entry in entries if isinstance(entry, RawRow)]


@pytest.mark.parametrize("name", READABLE)
def test_file_is_recognised_read_whole_and_written_back(name: str) -> None:
    rows = rows_of(name)
    expected_format, expected_rows = READABLE[name]
    detection = detect_format(rows[:1000], where=name)
    assert detection.format.name == expected_format
    assert detection.evidence
    assert len(rows) == expected_rows
    for row in rows:
        conversation = detection.format.read(row)
        assert isinstance(conversation, Conversation)
        assert detection.format.write(conversation) == row


@pytest.mark.parametrize("name", READABLE)
def test_other_formats_carry_the_same_turns_or_say_that_they_cannot(name: str) -> None:
    rows = rows_of(name)[:50]
    source = format_named(READABLE[name][0])  # type: ignore[arg-type]
    for row in rows:
        conversation = source.read(row)
        assert isinstance(conversation, Conversation)
        for target in FORMATS:
            written = target.write(conversation)
            if isinstance(written, RowFault):
                assert written.code == "cannot_convert"
                continue
            again = target.read(written)
            assert isinstance(again, Conversation)
            assert again.kind == conversation.kind
            assert again.messages == conversation.messages
            assert (again.rejected, again.label) == (conversation.rejected, conversation.label)


def test_the_table_names_every_file() -> None:
    if not FT.is_dir():
        pytest.skip("the folder of real data is not beside the repository")
    assert {path.relative_to(FT).as_posix() for path in FT.rglob("*") if path.is_file()} == READABLE.keys()


def test_both_answers_of_a_pair_are_read() -> None:
    rows = rows_of("preference/dpo_en_demo.json")
    for row in rows:
        conversation = format_named("preference").read(row)
        assert isinstance(conversation, Conversation)
        assert conversation.messages[-1].content == row["chosen"]["value"]
        assert [message.content for message in conversation.rejected] == [row["rejected"]["value"]]


def test_rejected_answers_of_kto_data_are_not_learned() -> None:
    rows = rows_of("preference/kto_en_demo.json")
    read = [format_named("chatml").read(row) for row in rows]
    faults = [fault.code for fault in read if isinstance(fault, RowFault)]
    assert faults == ["rejected_answer"] * sum(row["label"] is False for row in rows)
    assert faults


def test_tools_and_calls_of_glaive_become_tools_and_turns() -> None:
    rows = rows_of("sharegpt/glaive_toolcall_en_demo.json")
    conversation = format_named("sharegpt").read(rows[0])
    assert isinstance(conversation, Conversation)
    assert isinstance(conversation.extra["tools"], list)
    assert "tool" in {message.role for message in conversation.messages}
