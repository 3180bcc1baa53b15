"""What passed leaves the house as it was evaluated, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import TEMPLATES, write_model, write_rows
from tests.unit.export.test_modelfile import served
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from finetune_exe.domain.evaluation import Evaluation, SuiteResult
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.shipment import Shipment
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Check, Hardware
from finetune_exe.domain.yaml_text import parse_yaml
from finetune_exe.errors import GATE, FineTuneError
from finetune_exe.evaluation.artefacts import model_card, only_safe_files, stops_when_served
from finetune_exe.models import gguf_writing
from finetune_exe.models.fingerprint import fingerprint
from finetune_exe.models.load import load_model
from finetune_exe.models.methods import training_method
from finetune_exe.text.conversation import Message
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.workflow.plans import make_plan
from finetune_exe.workflow.runs import evaluate_run, train_plan
from finetune_exe.workflow.shipping import Wish, export_run

HARDWARE = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)
PASSED = Check(name="something", passed=True, detail="it holds")
FAILED = Check(name="closeness", passed=False, detail="far away", fix="less")
PROMPT = "<|im_start|>user\nsay fox 3<|im_end|>\n<|im_start|>assistant\n"


class House:
    """A tiny model that was trained and evaluated."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.base = write_model(folder / "base")
        (self.base / "README.md").write_text("---\nlicense: house-rules\n---\n# A base\n")
        rows = write_rows(folder / "rows.jsonl", count=72)
        self.plan: Plan = make_plan(
            TaskSpec(description="answer", data_paths=(str(rows),), model=str(self.base)),
            hardware=HARDWARE,
            settings=("data.group_by=topic", "data.test_fraction=0.3", "schedule.epochs=4", "optimizer.learning_rate=1e-2",
                      "batch.micro_batch_size=8", "evaluation.max_new_tokens=8", "precision.base_dtype=float32", *settings),
        )  # fmt: skip
        self.run = folder / "run"
        self.training = train_plan(
            self.plan, self.run, emit=lambda _: None, progress=lambda *_: None, note=lambda _: None
        )
        self.evaluation = evaluate_run(self.run, progress=lambda *_: None, note=lambda _: None)
        self.judged(PASSED)

    def judged(self, *checks: Check) -> None:
        self.evaluation.model_copy(update={"readiness": checks}).write(self.run / "evaluation.json")

    def export(self, target: Path, form: Any = "merged", **options: Any) -> Shipment:
        return export_run(self.run, target, Wish(form=form, **options), note=lambda _: None)[0]

    def beside(self) -> Any:
        """The adapter beside its base."""
        method = self.plan.method
        return training_method(method).load(
            self.run / self.training.checkpoint, self.base, method, dtype="float32", device="cpu"
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_EXE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return House(tmp_path_factory.mktemp("house"))


@pytest.fixture(autouse=True)
def _passed(house: House) -> None:
    house.judged(PASSED)


def logits(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def test_merged_weights_predict_what_the_adapter_does(house: House, tmp_path: Path) -> None:
    shipment = house.export(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(PROMPT, add_special_tokens=False).input_ids
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.allclose(logits(theirs, ids), logits(house.beside(), ids), atol=1e-4)
    assert not torch.allclose(
        logits(theirs, ids), logits(load_model(house.base, dtype="float32", device="cpu"), ids), atol=1e-2
    )
    assert (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "say fox 3"}], tokenize=False, add_generation_prompt=True
        )
        == PROMPT
    )
    assert (shipment.verdict, shipment.objections, shipment.anyway) == ("ready", (), None)
    assert [p.name for p in shipment.parities] == ["merged weights against the adapter", "float32 against float32"]
    assert Shipment.read(tmp_path / "out" / "export.json") == shipment
    assert only_safe_files(tmp_path / "out").passed
    assert stops_when_served(tmp_path / "out", house.base, load_tokenizer(tmp_path / "out", chat_template=None)).passed


def test_merged_weights_may_be_rounded(house: House, tmp_path: Path) -> None:
    house.export(tmp_path / "out", number_format="bfloat16")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    whole, rounded = (p for p in Shipment.read(tmp_path / "out" / "export.json").parities)
    assert whole.divergence < rounded.divergence < 1e-2


@pytest.mark.parametrize(("kind", "near"), [("f32", 1e-4), ("f16", 2e-2), ("bf16", 0.2), ("q8_0", 0.3)])
def test_transformers_reads_the_gguf_file_as_the_same_model(
    house: House, tmp_path: Path, kind: str, near: float
) -> None:
    shipment = house.export(tmp_path / "out", "gguf", number_format=kind)
    [file] = (tmp_path / "out").glob("*.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ours = load_tokenizer(house.base, chat_template=None)
    for text in (PROMPT, "the quick <|im_end|>fox 123\n\n  ", "caf\u00e9 \u4f60\u597d"):
        assert tokenizer(text, add_special_tokens=False).input_ids == ours.encode(text).ids
    assert ours.template is not None
    assert tokenizer.chat_template == ours.template.source
    ids = ours.encode(PROMPT).ids
    assert torch.allclose(logits(theirs, ids), logits(house.beside(), ids), atol=near)
    assert shipment.parities[1].divergence < shipment.parities[1].most_divergence
    assert shipment.num_prompts_tokenised > 10


def test_llama_cpp_computes_the_same_from_the_gguf_file(house: House, tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's binding is not installed: pip install xllamacpp")
    house.export(tmp_path / "out", "gguf", number_format="f32")
    [file] = (tmp_path / "out").glob("*.gguf")
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = str(file), 256, 1, False
    options.cpuparams.n_threads = 1
    server = xllamacpp.Server(options)
    ours = load_tokenizer(house.base, chat_template=None)
    for text in (PROMPT, "the quick <|im_end|>fox 123\n\n  "):
        ids = ours.encode(text).ids
        asked = {
            "n_predict": 1,
            "n_probs": 400,
            "temperature": -1.0,
            "post_sampling_probs": False,
            "logit_bias": [[ours.encode("a").ids[0], 100.0]],
        }
        by_ids, by_text = (server.handle_completions({"prompt": prompt, **asked}) for prompt in (ids, text))
        expected = torch.log_softmax(logits(house.beside(), ids)[-1], -1)
        for answer in (by_ids, by_text):
            found = {
                row["id"]: row["logprob"] for row in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            }
            assert len(found) > 300
            assert np.allclose(
                [expected[number] for number in found], list(found.values()), atol=2e-2
            )  # it keeps keys and values in float16
    chat = server.handle_chat_completions(
        {"messages": [{"role": "user", "content": "say fox 3"}], "max_tokens": 8, "temperature": 0.0}
    )
    told = server.handle_completions({"prompt": ours.encode(PROMPT).ids, "n_predict": 8, "temperature": 0.0})
    assert chat["choices"][0]["message"]["content"] == told["choices"][0]["text"]


def test_a_modelfile_stands_beside_the_gguf_file(house: House, tmp_path: Path) -> None:
    house.export(tmp_path / "out", "gguf", number_format="f16")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith("FROM ./run-f16.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER temperature 0" in text
    assert "PARAMETER num_predict 8" in text
    assert "PARAMETER num_ctx 256" in text
    assert served(text, [Message(role="user", content="say fox 3")]) == PROMPT


def test_a_first_token_that_the_template_writes_is_not_added_again(house: House, tmp_path: Path) -> None:
    from gguf import GGUFReader

    template = house.base / "chat_template.jinja"
    before = template.read_text()
    try:
        template.write_text(TEMPLATES["trims_content"])
        assert "chat template" in refused(house, tmp_path / "out", form="gguf").what
        house.export(tmp_path / "out", "gguf", number_format="f32", anyway="a template of ours")
    finally:
        template.write_text(before)
    [file] = (tmp_path / "out").glob("*.gguf")
    assert GGUFReader(file).fields["tokenizer.ggml.add_bos_token"].contents() is False
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert served(text, [Message(role="user", content="say fox 3")]).startswith("<s><|head|>user")


def test_the_adapter_loads_beside_its_base(house: House, tmp_path: Path) -> None:
    from peft import PeftModel

    house.export(tmp_path / "out", "adapter")
    theirs = PeftModel.from_pretrained(load_model(house.base, dtype="float32", device="cpu"), tmp_path / "out").eval()
    ids = load_tokenizer(house.base, chat_template=None).encode(PROMPT).ids
    assert torch.allclose(logits(theirs, ids), logits(house.beside(), ids), atol=1e-5)


def card_of(folder: Path) -> tuple[Any, str]:
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return parse_yaml(head, where="card").plain(), body


def test_the_card_judges_a_suite_as_the_report_does(house: House, tmp_path: Path) -> None:
    main = house.evaluation.comparisons[0].model_copy(update={"p_value": 0.0213, "verdict": "regressed"})
    suite = SuiteResult(
        name="sums", kind="continuation", digest="x", comparison=main, p_adjusted=0.0639, verdict="inconclusive"
    )
    changed = {"suites": (suite,), "readiness": (PASSED,)}
    house.evaluation.model_copy(update=changed).write(house.run / "evaluation.json")
    house.export(tmp_path / "out")
    _, body = card_of(tmp_path / "out")
    (row,) = (line for line in body.splitlines() if "sums (suite)" in line)
    assert [cell.strip() for cell in row.split("|")[-4:-1:2]] == ["0.064", "inconclusive"]
    assert "95 % interval" in body


def test_the_card_says_what_was_measured_and_what_was_not(house: House, tmp_path: Path) -> None:
    unwritten = model_card([tmp_path])
    assert unwritten.passed is None
    house.judged(PASSED, Check(name="latency", passed=None, detail="nobody <b>timed</b> it"), unwritten)
    house.export(tmp_path / "out", data_license="CC0 of our own")
    head, body = card_of(tmp_path / "out")
    assert model_card([tmp_path / "out"]).passed
    assert head["base_model"] == "base"
    assert head["base_model_relation"] == "finetune"
    assert (head["license"], head["license_name"]) == ("other", "house-rules")
    assert "house-rules; its terms are not known" in body
    main = house.evaluation.comparisons[0]
    assert head["model-index"][0]["results"][0]["metrics"][0] == {
        "type": main.metric,
        "name": main.metric,
        "value": main.candidate,
    }
    assert main.ci_low is not None
    assert f"{main.ci_low:+.4g} to " in body
    assert "Open: latency: nobody &lt;b&gt;timed&lt;/b&gt; it" in body
    assert unwritten.name not in body, "the card is there"
    assert "CC0 of our own" in body
    assert "72 rows were read" in body
    for digest in (house.plan.digest(), house.training.digest(), house.evaluation.inputs["weights"]):
        assert digest in body
    with (tmp_path / "out" / "model.safetensors").open("rb") as file:
        import hashlib

        assert hashlib.file_digest(file, "sha256").hexdigest() in body


# --- what must not leave ---


def refused(house: House, target: Path, **options: Any) -> FineTuneError:
    with pytest.raises(FineTuneError) as caught:
        house.export(target, **options)
    assert not target.exists()
    assert list(target.parent.iterdir()) == []
    return caught.value


def test_a_model_that_failed_a_point_stays(house: House, tmp_path: Path) -> None:
    house.judged(PASSED, FAILED)
    fault = refused(house, tmp_path / "out")
    assert (fault.code, fault.exit_status) == ("E07", GATE)
    assert "closeness: far away" in fault.what


def test_a_model_that_was_not_evaluated_stays(house: House, tmp_path: Path) -> None:
    (house.run / "evaluation.json").unlink()
    assert "not evaluated" in refused(house, tmp_path / "out").what


def test_a_model_of_which_nobody_can_say_stays(house: House, tmp_path: Path) -> None:
    unsure = house.evaluation.model_copy(update={"readiness": (PASSED,), "comparisons": (), "task_comparisons": ()})
    unsure.write(house.run / "evaluation.json")
    assert "nobody can say" in refused(house, tmp_path / "out").what
    little = house.evaluation.comparisons[0].model_copy(update={"verdict": "improved", "margin": 1e9})
    unsure.model_copy(update={"comparisons": (little,)}).write(house.run / "evaluation.json")
    assert "nothing improved by more than its margin" in refused(house, tmp_path / "out").what


@pytest.mark.parametrize(
    ("name", "said"), [("weights", "other weights"), ("run", "other weights"), ("base", "another base")]
)
def test_an_evaluation_of_other_weights_does_not_count(house: House, tmp_path: Path, name: str, said: str) -> None:
    other = {**house.evaluation.inputs, name: "0" * 32}
    house.evaluation.model_copy(update={"readiness": (PASSED,), "inputs": other}).write(house.run / "evaluation.json")
    assert said in refused(house, tmp_path / "out").what


def test_weights_that_were_changed_since_stay(house: House, tmp_path: Path) -> None:
    file = house.run / house.training.checkpoint / "adapter_model.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes(before[:-4] + b"\0\0\0\1")
        assert "other weights" in refused(house, tmp_path / "out").what
    finally:
        file.write_bytes(before)


def test_a_model_beside_another_base_stays(house: House, tmp_path: Path) -> None:
    assert house.training.inputs["base"] == fingerprint(house.base)
    file = house.base / "model.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes(before[:-4] + b"\0\0\0\1")
        fault = refused(house, tmp_path / "out", form="adapter")
        assert "the base model is not the one that was trained on" in fault.why
    finally:
        file.write_bytes(before)


def test_only_an_export_is_ever_replaced(house: House, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FineTuneError) as caught:
            export_run(house.run, tmp_path / "mine", Wish(form="adapter"), overwrite=overwrite, note=lambda _: None)
        assert caught.value.code == "O01"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    house.export(tmp_path / "out", "adapter")
    export_run(house.run, tmp_path / "out", Wish(form="adapter"), overwrite=True, note=lambda _: None)


def test_a_run_without_checkpoint_has_nothing_to_export(house: House, tmp_path: Path) -> None:
    checkpoint = house.run / house.training.checkpoint
    checkpoint.rename(tmp_path / "aside")
    try:
        with pytest.raises(FineTuneError) as caught:
            house.export(tmp_path / "out", anyway="to see what happens")
        assert caught.value.code == "E01"
    finally:
        (tmp_path / "aside").rename(checkpoint)


def test_a_reason_opens_the_door_and_stands_in_the_card(house: House, tmp_path: Path) -> None:
    house.judged(FAILED)
    shipment = house.export(tmp_path / "out", "adapter", anyway="to show it to the auditors")
    assert shipment.anyway == "to show it to the auditors"
    assert shipment.verdict == "not ready"
    _, body = card_of(tmp_path / "out")
    assert "Exported although it did not pass" in body
    assert "to show it to the auditors" in body
    assert "closeness: far away" in body
    house.judged(PASSED)
    assert house.export(tmp_path / "good", "adapter", anyway="to show it to the auditors").anyway is None


def test_a_quantisation_that_changes_the_model_stays(house: House, tmp_path: Path) -> None:
    fault = refused(house, tmp_path / "out", form="gguf", number_format="q4_0")
    assert fault.code == "E07"
    assert "q4_0 against float32" in fault.what


Spoil = Callable[[Any], Any]


def test_a_file_that_holds_another_model_is_not_kept(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_writing, "interleave", lambda values, _heads: values)
    fault = refused(house, tmp_path / "out", form="gguf", number_format="f32")
    assert "f32 against float32" in fault.what


def test_a_tokenizer_of_other_ids_is_not_kept(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_exe.models import gguf_vocabulary

    whole = gguf_vocabulary.read_vocabulary

    def swapped(*arguments: Any, **options: Any) -> Any:
        found = whole(*arguments, **options)
        from dataclasses import replace

        return replace(found, tokens=(*found.tokens[:30], found.tokens[31], found.tokens[30], *found.tokens[32:]),
                       merges=found.merges[:40])  # fmt: skip

    monkeypatch.setattr(gguf_vocabulary, "read_vocabulary", swapped)
    assert refused(house, tmp_path / "out", form="gguf", number_format="f32").code == "M04"


def test_what_llama_cpp_does_not_know_is_refused(house: House, tmp_path: Path) -> None:
    config = house.base / "config.json"
    before = config.read_text()
    for change, said in (({"model_type": "gpt_neox"}, "type gpt_neox"), ({"hidden_act": "gelu"}, "gelu"),
                         ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, "yarn")):  # fmt: skip
        try:
            config.write_text(json.dumps({**json.loads(before), **change}))
            fault = refused(house, tmp_path / "out", form="gguf", anyway="to see the refusal")
            assert fault.code == "O07"
            assert said in fault.what
        finally:
            config.write_text(before)


def test_full_fine_tuning_has_no_adapter_and_its_whole_model_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    full = House(tmp_path / "full", "method.kind=full", "optimizer.learning_rate=1e-3")
    with pytest.raises(FineTuneError) as caught:
        full.export(tmp_path / "adapter", "adapter")
    assert caught.value.code == "O07"
    full.export(tmp_path / "whole")
    ids = load_tokenizer(full.base, chat_template=None).encode(PROMPT).ids
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert torch.equal(logits(theirs, ids), logits(full.beside(), ids))


@pytest.mark.parametrize("offset", [True, False])
def test_an_adapter_that_offsets_rounding_says_where_it_belongs_and_leaves_merged(
    offset: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged, it is what was evaluated; PEFT alone puts it over 4 bit as the card says."""
    from bitsandbytes.nn import Linear4bit
    from peft import PeftModel
    from transformers import BitsAndBytesConfig

    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    house = House(tmp_path / "house", "method.kind=qlora", f"method.offset_rounding={str(offset).lower()}")
    house.export(tmp_path / "adapter", "adapter")
    _, body = card_of(tmp_path / "adapter")
    assert ("load the base with BitsAndBytesConfig" in body) is offset
    assert any("fine-tune export RUN --to merged" in remark for remark in house.training.remarks) is offset
    house.export(tmp_path / "whole")
    assert "offsets the rounding" not in card_of(tmp_path / "whole")[1]
    ids = load_tokenizer(house.base, chat_template=None).encode(PROMPT).ids
    trained = logits(house.beside(), ids)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert torch.allclose(logits(whole, ids), trained, atol=1e-3)
    in_4_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.float32)  # fmt: skip
    theirs = AutoModelForCausalLM.from_pretrained(house.base, dtype=torch.float32, quantization_config=in_4_bit)
    for module in theirs.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # bitsandbytes 0.50.2 cannot repack layers narrower than a block
    assert torch.allclose(
        logits(PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval(), ids), trained, atol=1e-3
    )


def test_the_document_is_read_as_it_was_written(house: House) -> None:
    assert Evaluation.read(house.run / "evaluation.json").inputs["weights"]


def test_a_run_that_does_not_name_its_rows_is_not_evaluated(house: House, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(house.run, run)
    summary = json.loads((run / "run.json").read_bytes())
    del summary["inputs"]["dataset"]
    (run / "run.json").write_text(json.dumps(summary))
    with pytest.raises(FineTuneError, match="it is not the one that the run was trained on") as caught:
        evaluate_run(run, progress=lambda *_: None, note=lambda _: None)
    assert caught.value.code == "D05"
