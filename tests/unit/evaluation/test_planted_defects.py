"""Runs that were spoilt on purpose, evaluated from end to end: the point that must fail fails, and not on the clean run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.test_evaluate import Job

from finetune_exe.domain.evaluation import CARD_POINT, Evaluation
from finetune_exe.domain.shipment import Shipment
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import measure
from finetune_exe.evaluation.artefacts import is_other_base
from finetune_exe.evaluation.evaluate import evaluate
from finetune_exe.models.generate import Answer
from finetune_exe.text.tokenizer import load_tokenizer


@dataclass(slots=True)
class Spoilt:
    """A run that can be spoilt without harm to the clean one."""

    job: Job
    run: Path
    base: Path
    tokenizer: Any
    patch: pytest.MonkeyPatch

    @property
    def checkpoint(self) -> Path:
        return self.run / self.job.training.checkpoint

    def evaluated(self) -> Evaluation:
        return evaluate(
            self.job.plan, self.job.data, self.job.training, base=self.base, run=self.run, tokenizer=self.tokenizer
        )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("clean"), "schedule.epochs=3", "optimizer.learning_rate=3e-3")


@pytest.fixture(scope="module")
def clean(job: Job) -> Evaluation:
    return evaluate(job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer)


@pytest.fixture
def spoilt(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoilt:
    shutil.copytree(job.run, tmp_path / "run")
    shutil.copytree(job.base, tmp_path / "base")
    return Spoilt(job, tmp_path / "run", tmp_path / "base", job.tokenizer, monkeypatch)


def forgetful(it: Spoilt) -> None:
    """As after a learning rate far too high: what was learned, forty times over."""
    from safetensors.torch import load_file, save_file

    file = it.checkpoint / "adapter_model.safetensors"
    save_file({name: 40 * value if "lora_B" in name else value for name, value in load_file(file).items()}, file)


def collapsed(it: Spoilt) -> None:
    """The same answer to every question."""
    whole, same = measure.generate, "the fox said the same as it said before"
    first = measure.measure

    def told(model: Any, name: str, *arguments: Any, **options: Any) -> Any:
        asked[0] = name == "tuned model"
        return first(model, name, *arguments, **options)

    asked = [False]
    it.patch.setattr(
        measure, "generate",
        lambda model, prompts, *a, **o: [Answer(same, True, 9) for _ in prompts]
        if asked[0] else whole(model, prompts, *a, **o),
    )  # fmt: skip
    it.patch.setattr("finetune_exe.evaluation.evaluate.measure", told)


def badly_merged(it: Spoilt) -> None:
    """Merging that loses a layer's share of what was learned."""
    whole = measure.merged

    def merged(model: Any) -> Any:
        import torch

        found = whole(model)
        if found is not model:
            with torch.no_grad():
                found.model.layers[0].mlp.down_proj.weight.mul_(0.5)
        return found

    it.patch.setattr(measure, "merged", merged)


def wrong_end(it: Spoilt) -> None:
    """Servers are told to stop at a token that is no end of turn."""
    (it.base / "generation_config.json").write_text('{"eos_token_id": 17}')


def other_template(it: Spoilt) -> None:
    """The template was changed after the rows were prepared."""
    it.tokenizer = load_tokenizer(it.base, chat_template="plain")


def pickled(it: Spoilt) -> None:
    """Something that can run code lies beside the weights."""
    (it.checkpoint / "optimizer.pt").write_bytes(b"\x80\x04.")


def other_base(it: Spoilt) -> None:
    """The base model was trained on since: another version was downloaded over it."""
    from safetensors.torch import load_file, save_file

    file = it.base / "model.safetensors"
    save_file({name: 1.001 * value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


PLANTED: dict[str, tuple[Callable[[Spoilt], None], str]] = {
    "forgetful": (forgetful, "close to the base model"),
    "bad merge": (badly_merged, "merged weights equal the adapter"),
    "wrong end": (wrong_end, "servers are told where answers end"),
    "broken template": (other_template, "served prompts are the trained prompts"),
    "other base": (other_base, "what it was made from is on record"),
    "pickle": (pickled, "nothing in the result can run code"),
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_a_planted_defect_is_caught(name: str, spoilt: Spoilt, clean: Evaluation) -> None:
    spoil, point = PLANTED[name]
    [sound] = [check for check in clean.readiness if point in check.name]
    assert sound.passed is not False, sound.detail
    spoil(spoilt)
    found = spoilt.evaluated()
    [check] = [check for check in found.readiness if point in check.name]
    assert check.passed is False, check.detail
    assert found.verdict == "not ready"


def test_answers_that_are_all_the_same_are_caught(spoilt: Spoilt, clean: Evaluation) -> None:
    """The tiny model's own answers run on; they are not alike."""
    assert clean.collapse is not None
    assert not clean.collapse.collapsed, clean.collapse.reasons
    collapsed(spoilt)
    found = spoilt.evaluated()
    assert found.collapse is not None
    assert found.collapse.collapsed
    [check] = [check for check in found.readiness if "do not repeat" in check.name]
    assert check.passed is False
    assert "answers" in check.detail


def test_a_run_that_does_not_name_its_base_is_told_by_its_checkpoint(spoilt: Spoilt) -> None:
    named = spoilt.job.training
    earlier = named.model_copy(update={"inputs": {key: named.inputs[key] for key in ("plan", "dataset")}})
    assert is_other_base(spoilt.base, earlier, spoilt.checkpoint) is False
    other_base(spoilt)
    assert is_other_base(spoilt.base, earlier, spoilt.checkpoint) is True
    (spoilt.checkpoint / "manifest.json").unlink()
    assert is_other_base(spoilt.base, earlier, spoilt.checkpoint) is None
    assert is_other_base(spoilt.base, named, spoilt.checkpoint) is True


def test_a_checkpoint_that_was_cut_off_is_named_before_any_model_is_loaded(spoilt: Spoilt) -> None:
    file = spoilt.checkpoint / "adapter_model.safetensors"
    for left in (file.read_bytes()[:3000], b"no weights"):
        file.write_bytes(left)
        with pytest.raises(FineTuneError, match="the checkpoint is damaged") as caught:
            spoilt.evaluated()
        assert "adapter_model.safetensors" in caught.value.why
    assert caught.value.where == str(spoilt.checkpoint)


@pytest.mark.parametrize("kept", [("manifest.json",), ("adapter_model.safetensors", "manifest.json"), ()])
def test_a_checkpoint_that_lacks_a_file_is_named_before_any_model_is_loaded(
    kept: tuple[str, ...], spoilt: Spoilt
) -> None:
    gone = [file.name for file in spoilt.checkpoint.iterdir() if file.is_file() and file.name not in kept]
    for name in gone:
        (spoilt.checkpoint / name).unlink()
    with pytest.raises(FineTuneError, match="the checkpoint is damaged") as caught:
        spoilt.evaluated()
    assert ("adapter_config.json" if kept else "*.safetensors") in caught.value.why


def test_the_card_of_an_export_is_the_models_card(spoilt: Spoilt, clean: Evaluation) -> None:
    """Nothing else writes one, so that without it the point could never be decided."""
    folder = spoilt.run / "export" / "merged"
    folder.mkdir(parents=True)
    exported = Shipment(
        inputs={"weights": clean.inputs["weights"]}, form="merged", number_format="float32", verdict="ready",
        objections=(), anyway=None, parities=(), num_prompts_tokenised=0, notes=(), files=(),
    )  # fmt: skip
    exported.write(folder / "export.json")
    card = "---\nbase_model: b\nbase_model_relation: finetune\ndatasets: [d]\nlicense: mit\n---\n"
    for text, passed in ((card, True), (card.replace("license: mit\n", ""), False)):
        (folder / "README.md").write_text(text)
        [point] = [check for check in spoilt.evaluated().readiness if check.name == CARD_POINT]
        assert point.passed is passed, point.detail
    exported.model_copy(update={"inputs": {"weights": "of another run"}}).write(folder / "export.json")
    [point] = [check for check in spoilt.evaluated().readiness if check.name == CARD_POINT]
    assert point.passed is None
