"""Each of the eighteen points of the readiness list: its planted defect fails it, and a sound state does not."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.tiny import write_model
from tests.unit.report import sample

from finetune_exe.domain.evaluation import Canary, Comparison, ForgettingCard, Generation, Memorisation, SuiteResult
from finetune_exe.domain.shipment import MERGED_PARITY, Parity, Shipment
from finetune_exe.domain.values import Check
from finetune_exe.evaluation import artefacts, readiness
from finetune_exe.evaluation.abilities import gain, retention
from finetune_exe.evaluation.collapse import collapse_card
from finetune_exe.evaluation.contamination import contamination
from finetune_exe.evaluation.forgetting import Moved
from finetune_exe.evaluation.refusal_probe import TO_ANSWER, TO_REFUSE, Leanings
from finetune_exe.evaluation.statistics import compare_means
from finetune_exe.evaluation.template_parity import template_parity
from finetune_exe.text.tokenizer import load_tokenizer


def compared(shift: float, *, n: int = 400, margin: float = 0.02, seed: int = 1) -> Comparison:
    noise = np.random.default_rng(seed).normal(0, 0.1, n)
    return compare_means(np.zeros(n), noise + shift, range(n), metric="m", higher_is_better=True, margin=margin)


def suite(shift: float, **options: Any) -> SuiteResult:
    comparison = compared(shift, **options)
    return SuiteResult(
        name="s",
        kind="multiple_choice",
        digest="d",
        comparison=comparison,
        p_adjusted=comparison.p_value,
        verdict=comparison.verdict,
    )


def right_or_wrong(n: int) -> SuiteResult:
    """A few items that both models have right: no loss was seen, and none is ruled out."""
    found = compare_means([1.0] * n, [1.0] * n, range(n), metric="m", higher_is_better=True, margin=0.02)
    return SuiteResult(
        name="s", kind="multiple_choice", digest="d", comparison=found, p_adjusted=1.0, verdict=found.verdict
    )


def card(divergence: float) -> ForgettingCard:
    return ForgettingCard(num_prompt_tokens=9, divergence=divergence, divergence_p99=1.0, top1_agreement=0.9, num_generic_tokens=9,
                          generic_divergence=divergence, generic_cross_entropy=2.0, generic_entropy=2.0)  # fmt: skip


def answered(ended: int, looping: float = 0.0) -> Generation:
    return Generation(num_rows=200, max_new_tokens=8, stop_tokens=("x",), baseline_stop_rate=1.0, candidate_stop_rate=ended / 200,
                      candidate_loop_rate=looping)  # fmt: skip


def merged(divergence: float) -> Moved:
    values = np.full(50, divergence, dtype=np.float32)
    return Moved(values, values, values, np.full(50, divergence < 0.01))


def leaning(refused: int, answered_: int) -> Leanings:
    return Leanings(
        tuple(i < refused for i in range(len(TO_REFUSE))), tuple(i < answered_ for i in range(len(TO_ANSWER)))
    )


def memory(extracted: float, p_value: float, *canaries: Canary) -> Memorisation:
    return Memorisation(
        num_rows=50,
        extracted_train=extracted,
        extracted_held_out=0.0,
        extracted_baseline=0.0,
        p_value=p_value,
        suffix_tokens=50,
        canaries=canaries,
    )


def shipped(divergence: float, *, weights: str = "w", number_format: str = "q8_0") -> Shipment:
    measured = Parity(name=f"{number_format} against float32", num_tokens=9, divergence=divergence, divergence_p999=1.0, top1_agreement=0.9, most_divergence=0.06)  # fmt: skip
    return Shipment(inputs={"weights": weights}, form="gguf", number_format=number_format, verdict="ready", objections=(), anyway=None,
                    parities=(measured,), num_prompts_tokenised=9, notes=(), files=())  # fmt: skip


def rows_of(train: list[str], test: list[str]) -> Any:
    def split(name: str) -> Any:
        texts = train if name == "train" else test
        rows = [
            SimpleNamespace(conversation={"kind": "text", "messages": [{"role": "assistant", "content": t}]})
            for t in texts
        ]
        return SimpleNamespace(stream_rows=lambda: iter(rows))

    return SimpleNamespace(split=split)


def asked_of(train: list[tuple[str, str]], test: list[tuple[str, str]]) -> Any:
    def split(name: str) -> Any:
        rows = [
            SimpleNamespace(conversation={"kind": "chat", "messages": [
                {"role": "user", "content": question}, {"role": "assistant", "content": answer},
            ]})
            for question, answer in (train if name == "train" else test)
        ]  # fmt: skip
        return SimpleNamespace(stream_rows=lambda: iter(rows))

    return SimpleNamespace(split=split)


def plan_with(license: str) -> Any:
    plan = sample.plan()
    return plan.model_copy(update={"model": plan.model.model_copy(update={"license": license})})


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
SECRET = Canary(name="canary", rank=1, num_candidates=64, exposure_bits=6.0)
SAME = "same answer to every question that is asked here today"
COLLAPSED = collapse_card(
    [f"{i} " + SAME for i in range(20)], [SAME] * 20, [f"w{i} x{i} y{i} z{i} a{i} b{i} c{i}" for i in range(20)]
)

POINTS: dict[str, tuple[Callable[[], Check], Callable[[], Check]]] = {
    "1 gain": (lambda: gain([compared(0.5)]), lambda: gain([compared(0.0)])),
    "2 retention": (lambda: retention([], [suite(0.0)]), lambda: retention([], [suite(0.0), suite(-0.3)])),
    "2 retention of other metrics": (lambda: retention([compared(0.0)], []), lambda: retention([compared(-0.3)], [])),
    "3 drift": (lambda: readiness.drift(card(0.01), num_parameters=135_000_000), lambda: readiness.drift(card(2.0), num_parameters=135_000_000)),
    "4 stops": (lambda: readiness.stops(answered(200), None), lambda: readiness.stops(answered(150), None)),
    "4 loops": (lambda: readiness.stops(answered(200), None), lambda: readiness.stops(answered(200, 0.1), None)),
    "4 collapse": (lambda: readiness.stops(answered(200), None), lambda: readiness.stops(answered(200), COLLAPSED)),
    "6 merge": (lambda: readiness.merge_parity(merged(1e-6), "lora"), lambda: readiness.merge_parity(merged(0.2), "lora")),
    "7 quantisation": (lambda: readiness.quantisation([shipped(2e-3)], "w"), lambda: readiness.quantisation([shipped(2e-3), shipped(0.3)], "w")),
    "8 refuses less": (lambda: readiness.refusals(leaning(10, 1), leaning(10, 1)), lambda: readiness.refusals(leaning(10, 1), leaning(2, 1))),
    "8 refuses too much": (lambda: readiness.refusals(leaning(10, 1), leaning(10, 2)), lambda: readiness.refusals(leaning(10, 1), leaning(12, 11))),
    "9 memory": (lambda: readiness.memory(memory(0.02, 0.5)), lambda: readiness.memory(memory(0.3, 0.001))),
    "9 canary": (lambda: readiness.memory(memory(0.0, 1.0)), lambda: readiness.memory(memory(0.0, 1.0, SECRET))),
    "11 latency": (lambda: readiness.latency(0.3, 0.5), lambda: readiness.latency(0.8, 0.5)),
    "10 contamination": (lambda: contamination(rows_of([LONG], ["other words"])), lambda: contamination(rows_of([LONG], [LONG.upper()]))),
    "10 contamination by another question": (
        lambda: contamination(asked_of([("what is it", LONG)] * 2, [("tell me now", LONG)])),
        lambda: contamination(asked_of([("what is it", LONG), ("else", "no")], [("tell me in other words about all of this, please, my friend", LONG)])),
    ),
    "10 contamination in part": (lambda: contamination(rows_of([LONG], ["x " * 20])), lambda: contamination(rows_of([LONG + " and more"], ["Well, " + LONG]))),
}  # fmt: skip


@pytest.mark.parametrize("point", list(POINTS))
def test_a_planted_defect_fails_its_point_and_a_sound_state_passes(point: str) -> None:
    sound, spoilt = (make() for make in POINTS[point])
    assert sound.passed is True, sound
    assert spoilt.passed is False, spoilt
    assert spoilt.fix
    assert spoilt.detail


def test_one_label_for_everything_is_mended_otherwise_than_texts_that_are_alike() -> None:
    texts, labels = (readiness.stops(answered(200), COLLAPSED, labels=labels) for labels in (False, True))
    assert texts.passed is False
    assert labels.passed is False
    assert "each label" in (labels.fix or "")
    assert "label" not in (texts.fix or "")


@pytest.mark.parametrize(
    "check",
    [gain([]), retention([], []), readiness.drift(None, num_parameters=9), readiness.drift(card(0.3), num_parameters=135_000_000), readiness.stops(None, None), readiness.merge_parity(None, "qlora"),
     readiness.quantisation([], "w"), readiness.quantisation([shipped(0.3, weights="other")], "w"),
     readiness.quantisation([shipped(0.0, number_format="float32"), shipped(0.0, number_format="f32")], "w"), readiness.refusals(None, None), readiness.refusals(leaning(0, 0), leaning(0, 0)), readiness.memory(None),
     readiness.latency(None), readiness.latency(0.3), retention([], [suite(0.0, n=20)]),
     readiness.refusals(leaning(10, 1), leaning(7, 1)), retention([], [right_or_wrong(5)])],
)  # fmt: skip
def test_what_was_not_measured_does_not_count(check: Check) -> None:
    assert check.passed is None


def test_divergence_is_held_against_the_published_losses_of_smaller_models() -> None:
    """Hoffmann et al., table A.3's equation: 406.4 / N^0.34, between 135 and 67.5 million weights, and down to 16.9."""
    for times, expected in ((2, 0.1862), (8, 0.7193)):
        assert readiness.loss_of_smaller(135_000_000, times=times) == pytest.approx(expected, rel=2e-3)
    assert readiness.loss_of_smaller(50_000, times=2) == readiness.loss_of_smaller(44_000_000, times=2)
    assert readiness.loss_of_smaller(7_000_000_000, times=2) < 0.05


# --- points that files answer ---


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A base, and a checkpoint of full fine-tuning."""
    return write_model(tmp_path / "base"), write_model(tmp_path / "tuned", seed=1)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def spoil_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    [file] = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_weights_that_are_not_whole_are_found(folders: tuple[Path, Path]) -> None:
    base, tuned = folders
    tokenizer = load_tokenizer(base, chat_template=None)
    assert artefacts.weights_whole(tuned, base, tokenizer).passed is True
    stop, key = tokenizer.stop_token_ids[0], "model.embed_tokens.weight"

    def with_row(value: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def change(tensors: dict[str, Any]) -> dict[str, Any]:
            tensors[key][stop] = value
            return tensors

        return change

    spoil_weights(tuned, with_row(0.0))
    assert "zero" in artefacts.weights_whole(tuned, base, tokenizer).detail
    spoil_weights(tuned, with_row(math.nan))
    assert "not finite" in artefacts.weights_whole(tuned, base, tokenizer).detail
    spoil_weights(tuned, lambda tensors: {**with_row(1.0)(tensors), key: tensors[key][:300].clone()})
    found = artefacts.weights_whole(tuned, base, tokenizer)
    assert found.passed is False
    assert "fewer rows" in found.detail


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_found_wherever_it_stands(folders: tuple[Path, Path], value: float) -> None:
    base, tuned = folders
    spoil_weights(tuned, lambda tensors: {**tensors, "model.norm.weight": tensors["model.norm.weight"] * value})
    found = artefacts.weights_whole(tuned, base, load_tokenizer(base, chat_template=None))
    assert found.passed is False
    assert "1 with numbers that are not finite" in found.detail


def test_a_token_that_ends_answers_and_was_never_trained_is_found(folders: tuple[Path, Path]) -> None:
    base, tuned = folders
    tokenizer = load_tokenizer(base, chat_template=None)

    def untrained(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["model.embed_tokens.weight"][tokenizer.stop_token_ids[0]] = 0.0
        return tensors

    spoil_weights(tuned, untrained)
    found = artefacts.weights_whole(tuned, base, tokenizer)
    assert found.passed is False
    assert "0 with numbers that are not finite" in found.detail


@pytest.mark.parametrize("learned", [0.0, 0.1])
def test_an_adapter_that_changes_nothing_is_found(folders: tuple[Path, Path], learned: float) -> None:
    import torch
    from safetensors.torch import save_file

    base, _ = folders
    adapter = base.parent / "adapter"
    adapter.mkdir()
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.full((8, 2), learned)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    found = artefacts.weights_whole(adapter, base, load_tokenizer(base, chat_template=None))
    assert found.passed is bool(learned)
    assert ("none that changes the base model" in found.detail) is not bool(learned)


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_position_embeddings", 64), ("original_max_position_embeddings", 64), ("rope_theta", 5e5),
     ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}), ("rope_parameters", {"rope_theta": 5e5}),
     ("sliding_window", 32)],
)  # fmt: skip
def test_a_changed_context_is_found(folders: tuple[Path, Path], key: str, value: object) -> None:
    base, tuned = folders
    assert artefacts.context_unchanged(base, tuned).passed is True
    edit(tuned / "config.json", **{key: value})
    found = artefacts.context_unchanged(base, tuned)
    assert found.passed is False
    assert key in found.detail
    (tuned / "config.json").unlink()
    assert artefacts.context_unchanged(base, tuned).passed is True


def test_a_wrong_end_token_for_servers_is_found(folders: tuple[Path, Path]) -> None:
    base, tuned = folders
    tokenizer = load_tokenizer(base, chat_template=None)
    for stop, passed in (
        (list(tokenizer.stop_token_ids), True),
        (tokenizer.stop_token_ids[0], True),
        (399, False),
        (None, False),
    ):
        (tuned / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}))
        assert artefacts.stops_when_served(tuned, base, tokenizer).passed is passed
    for folder in folders:
        (folder / "generation_config.json").unlink(missing_ok=True)
    assert artefacts.stops_when_served(tuned, base, tokenizer).passed is None


def test_files_that_can_run_code_are_found(folders: tuple[Path, Path]) -> None:
    _, tuned = folders
    assert artefacts.only_safe_files(tuned).passed is True
    edit(tuned / "config.json", auto_map={"AutoModel": "evil.py"})
    assert artefacts.only_safe_files(tuned).passed is False
    edit(tuned / "config.json", auto_map=None)
    (tuned / "config.json").unlink()
    for name, content in (("notes.txt", pickle.dumps({})), ("packed.json", b"PK..")):
        assert artefacts.only_safe_files(tuned).passed is True
        (tuned / name).write_bytes(content)
        assert name in artefacts.only_safe_files(tuned).detail
        (tuned / name).unlink()
    (tuned / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "evil.py"}}')
    assert "tokenizer_config.json" in artefacts.only_safe_files(tuned).detail
    (tuned / "inner").mkdir()
    (tuned / "inner" / "optimizer.pt").write_bytes(b"\x80")
    assert "optimizer.pt" in artefacts.only_safe_files(tuned).detail


def test_a_card_that_lacks_keys_is_found(tmp_path: Path) -> None:
    assert artefacts.model_card([tmp_path]).passed is None
    head = {"base_model": "b", "base_model_relation": "adapter", "datasets": "[d]", "license": "apache-2.0"}
    for left_out in (None, *head):
        lines = [f"{key}: {value}" for key, value in head.items() if key != left_out]
        (tmp_path / "README.md").write_text("---\n" + "\n".join(lines) + "\n---\n# Card\n")
        assert artefacts.model_card([tmp_path]).passed is (left_out is None)
    for key, value in (("license", ""), ("datasets", "[]"), ("datasets", "null"), ("base_model_relation", "cousin")):
        lines = [f"{name}: {value if name == key else said}" for name, said in head.items()]
        (tmp_path / "README.md").write_text("---\n" + "\n".join(lines) + "\n---\n# Card\n")
        assert artefacts.model_card([tmp_path]).passed is False
    listed = "---\nbase_model: b\nbase_model_relation: merge\ndatasets:\n- d\nlicense: mit\n---\n"
    (tmp_path / "README.md").write_text(listed)
    assert artefacts.model_card([tmp_path]).passed is True
    (tmp_path / "README.md").write_text("# Card\nbase_model: x")
    assert artefacts.model_card([tmp_path]).passed is False


def test_a_run_of_other_data_is_found() -> None:
    plan, data, training = sample.plan(), sample.dataset(), sample.run()
    folder: Any = SimpleNamespace(manifest=data)
    named = training.model_copy(update={"inputs": {"plan": plan.digest(), "dataset": data.digest()}})
    assert artefacts.provenance(plan, named, folder, other_base=None).passed is True
    other = named.model_copy(update={"inputs": {**named.inputs, "dataset": "0" * 32}})
    assert artefacts.provenance(plan, other, folder, other_base=None).passed is False
    assert (
        artefacts.provenance(plan, training.model_copy(update={"inputs": {}}), folder, other_base=None).passed is False
    )
    unversioned = named.model_copy(update={"versions": {}})
    assert "versions" in artefacts.provenance(plan, unversioned, folder, other_base=False).detail
    assert "base model" not in artefacts.provenance(plan, named, folder, other_base=None).detail
    assert "base model" in artefacts.provenance(plan, named, folder, other_base=False).detail
    assert artefacts.provenance(plan, named, folder, other_base=True).passed is False
    unhashed = data.model_copy(update={"sources": (data.sources[0].model_copy(update={"sha256": ""}),)})
    named = training.model_copy(update={"inputs": {"plan": plan.digest(), "dataset": unhashed.digest()}})
    found = artefacts.provenance(plan, named, SimpleNamespace(manifest=unhashed), other_base=None)  # type: ignore[arg-type]
    assert found.passed is False
    assert "1 sources have no digest" in found.detail


def test_a_licence_that_forbids_the_use_is_found() -> None:
    from finetune_exe.knowledge.licenses import _licenses

    forbidding = [facts.name for facts in _licenses().values() if not facts.commercial]
    assert artefacts.licences(plan_with("Apache-2.0")).passed is None
    assert artefacts.licences(plan_with("some licence nobody knows")).passed is None
    for name in (*forbidding, "cc-by-nc-4.0", "CC BY-NC-SA 4.0", "Some Research License", "noncommercial"):
        assert artefacts.licences(plan_with(name)).passed is False


def test_a_template_that_is_not_served_is_found(folders: tuple[Path, Path]) -> None:
    base, _ = folders
    tokenizer = load_tokenizer(base, chat_template=None)
    row = {
        "kind": "chat",
        "messages": [{"role": "user", "content": "say fox"}, {"role": "assistant", "content": "fox"}],
    }
    rows = [SimpleNamespace(conversation=row)]
    manifest = SimpleNamespace(template_digest=tokenizer.template_digest)
    data: Any = SimpleNamespace(split=lambda _: SimpleNamespace(read_rows=lambda: rows), manifest=manifest)
    assert template_parity(data, tokenizer, base).passed is True
    trained_otherwise = SimpleNamespace(split=data.split, manifest=SimpleNamespace(template_digest="another"))
    assert template_parity(trained_otherwise, tokenizer, base).passed is False  # type: ignore[arg-type]
    assert tokenizer.template is not None
    other = replace(tokenizer, template=replace(tokenizer.template, source="{{ messages[0]['content'] }}"))
    manifest.template_digest = other.template_digest
    assert template_parity(data, other, base).detail.startswith("0 of 6")
    (base / "chat_template.jinja").write_text("{{ bos_token * 2 }}" + tokenizer.template.source)
    doubling = load_tokenizer(base, chat_template=None)
    manifest.template_digest = doubling.template_digest
    found = template_parity(data, doubling, base)
    assert found.passed is False
    assert found.detail == "6 of 6 prompts equal those of transformers; 6 begin with two beginning-of-text tokens"


def test_rounding_to_16_bit_is_no_bad_merge_and_hides_none() -> None:
    assert readiness.merge_parity(merged(2e-3), "lora").passed is False
    assert readiness.merge_parity(merged(2e-3), "lora", rounded=True).passed is None
    assert readiness.merge_parity(merged(0.2), "lora", rounded=True).passed is False
    assert readiness.merge_parity(merged(1e-6), "lora", rounded=True).passed is True
    exported = Parity(name=MERGED_PARITY, num_tokens=9, divergence=1e-9, divergence_p999=1e-8, top1_agreement=1.0,
                      most_divergence=1e-3)  # fmt: skip
    bad = exported.model_copy(update={"divergence": 0.1})
    assert readiness.merge_parity(merged(2e-3), "lora", rounded=True, shipped=exported).passed is True
    assert readiness.merge_parity(merged(2e-3), "lora", rounded=True, shipped=bad).passed is False
    assert readiness.merge_parity(merged(0.2), "lora", rounded=True, shipped=exported).passed is False


def test_a_merge_that_seldom_thinks_the_same_token_likeliest_is_bad_though_little_moved() -> None:
    alike = merged(1e-6)._replace(agrees_N=np.arange(50) > 0)
    assert readiness.merge_parity(alike, "lora").passed is False


def test_what_the_base_or_held_out_rows_give_back_too_is_not_memorised() -> None:
    found = memory(0.3, 0.001)
    assert readiness.memory(found.model_copy(update={"extracted_baseline": 0.29})).passed is True
    assert readiness.memory(found.model_copy(update={"extracted_held_out": 0.29})).passed is True


def test_what_comes_back_hardly_more_often_than_rows_held_out_is_left_open() -> None:
    """As where sentences are paraphrased: many endings follow from the question, whether trained on or not."""
    easy = memory(0.19, 0.001).model_copy(update={"extracted_held_out": 0.15, "p_held_out": 0.56})
    assert readiness.memory(easy).passed is None
    assert "p = 0.56" in readiness.memory(easy).detail
    assert readiness.memory(easy.model_copy(update={"p_held_out": 0.01})).passed is False
    secret = Canary(name="canary", copies=9, exposure_bits=9.0, rank=1, num_candidates=512)
    assert readiness.memory(easy.model_copy(update={"canaries": (secret,)})).passed is False
    assert "data.canaries" in (readiness.memory(easy).fix or "")
    unknown = secret.model_copy(update={"rank": 200, "exposure_bits": 1.3})
    assert readiness.memory(easy.model_copy(update={"canaries": (unknown,)})).passed is True


def test_one_short_row_of_a_hundred_that_is_much_like_another_moves_no_score() -> None:
    """As of functions that hold a line: at the same share of them, and of fewer rows, it counts; copies always do."""
    others = [f"{number} " + " ".join(f"word{number}of{place}" for place in range(20)) for number in range(400)]
    like = ["Well, " + LONG]
    found = contamination(rows_of([LONG + " and more"], [*others[:99], *like]))
    assert found.passed is True
    assert "1 for the most part (too few to move a score)" in found.detail
    assert contamination(rows_of([LONG + " and more"], [*others[:98], *like])).passed is False
    assert contamination(rows_of([LONG], [*others, LONG])).passed is False


def test_rows_of_one_template_were_not_trained_on_for_having_its_words() -> None:
    form = f"Dear customer of the shop, {LONG}, your order number"
    assert contamination(rows_of([f"{form} 1"] * 3, [f"{form} 2", f"{form} 3"])).passed is True
    assert (
        contamination(rows_of([f"{form} 1"] * 3, [f"{form} 2", "quite another row, of its own words"])).passed is False
    )


def test_a_quick_answer_is_not_said_to_take_no_time() -> None:
    assert readiness.latency(0.0031).detail.startswith("0.0031 s an answer")


def test_one_metric_of_many_that_improves_by_chance_is_no_gain() -> None:
    """A p value of 0.03 among five metrics: chance alone brings one as small in one of seven such lists."""
    lucky = compared(0.5).model_copy(update={"metric": "chrf", "p_value": 0.03})
    others = [compared(0.0, seed=seed).model_copy(update={"metric": f"m{seed}"}) for seed in range(2, 6)]
    assert gain([lucky]).passed is True
    among = gain([lucky, *others])
    assert among.passed is False
    assert "not beyond what chance brings among 5 metrics: chrf" in among.detail
    assert gain([compared(0.5), *others]).passed is True


def test_a_gain_of_next_to_nothing_is_not_enough_however_sure_it_is() -> None:
    """Half of 20,000 answers are right, and 50 more under the tuned model: far beyond chance."""
    before = [float(n % 2) for n in range(20_000)]
    after = [1.0 if n % 400 == 0 or n % 2 else 0.0 for n in range(20_000)]

    def held(margin: float) -> Check:
        return gain(
            [compare_means(before, after, range(20_000), metric="accuracy", higher_is_better=True, margin=margin)]
        )

    found = held(0.01)
    assert (found.passed, found.detail) == (
        None,
        "better, but by less than the margin: accuracy by 0.0025 (margin 0.01)",
    )
    assert "only you know" in (found.fix or "")
    assert held(0.002).passed is True
    assert gain([compared(0.0), compared(0.5)]).passed is True
    evaluation = sample.evaluation().model_copy(update={"readiness": (found,)})
    assert evaluation.verdict == "cannot say"
    assert evaluation.model_copy(update={"readiness": (held(0.002),)}).verdict == "ready"
    narrow = {
        "readiness": (),
        "comparisons": (compared(0.5).model_copy(update={"margin": 0.9}),),
        "task_comparisons": (),
    }
    assert evaluation.model_copy(update=narrow).verdict == "cannot say"


def test_a_loss_is_a_gain_where_lower_is_better() -> None:
    worse = compare_means([0.0] * 9, [0.1] * 9, ["c"] * 9, metric="m", higher_is_better=True, margin=0.02)
    assert worse.gain == pytest.approx(0.1)
    assert worse.model_copy(update={"higher_is_better": False}).gain == pytest.approx(-0.1)


def test_suites_scored_in_different_units_are_not_averaged() -> None:
    text = suite(-0.001, margin=0.05)
    text = text.model_copy(update={"comparison": text.comparison.model_copy(update={"metric": "minus bits per byte"})})
    found = retention([], [suite(0.004), suite(0.004, seed=2), text])
    assert found.passed is True
    words = {part.partition(" +")[0].partition(" -")[0] for part in found.detail.split(": ")[1].split("; ")}
    assert words == {"mean change of m", "mean change of minus bits per byte"}
    alike = [suite(0.004), suite(0.004, seed=2)]
    mean = sum(one.comparison.difference for one in alike) / 2
    half = math.hypot(*(one.comparison.difference - (one.comparison.ci_low or 0.0) for one in alike)) / 2
    assert f"mean change of m {mean:+.3f}, at least {mean - half:+.3f}" in found.detail


def test_suites_of_which_one_has_no_interval_do_not_show_that_nothing_was_lost() -> None:
    one_cluster = compare_means([0.0] * 9, [0.1] * 9, ["c"] * 9, metric="m", higher_is_better=True, margin=0.02)
    unknown = suite(0.0).model_copy(update={"comparison": one_cluster, "verdict": one_cluster.verdict})
    assert retention([], [suite(0.0)]).passed is True
    assert retention([], [suite(0.0), unknown]).passed is None
    assert "its lower end unknown" in retention([], [suite(0.0), unknown]).detail


def test_suites_in_which_neither_model_has_anything_right_decide_nothing_and_hinder_nothing() -> None:
    """A small base has no multiplication right; whether it forgot anything is then asked of the other suites."""
    floor = compare_means([0.0] * 30, [0.0] * 30, range(30), metric="m", higher_is_better=True, margin=0.02)
    idle = suite(0.0).model_copy(update={"name": "sums", "comparison": floor, "verdict": floor.verdict})
    beside = retention([], [suite(0.0), idle])
    assert beside.passed is True
    assert beside.detail.startswith("1 suites, 400 items")
    assert beside.detail.endswith("neither model has anything right in sums")
    alone = retention([], [idle])
    assert (alone.passed, alone.fix) == (None, "choose suites the base can do in part")
    assert retention([], [suite(-0.3), idle]).passed is False
