"""Which models have a vector for each position, and how many positions are left."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import write_gpt2, write_model
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

from finetune_exe.domain.plan import Method, Prefix, Prompt
from finetune_exe.models.generate import generate
from finetune_exe.models.load import load_base, load_model
from finetune_exe.models.methods import training_method
from finetune_exe.models.positions import position_limit
from finetune_exe.text.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("m") / "gpt2", positions=24)


def test_tables_of_positions_are_found_and_rotations_have_no_end(gpt2: Path, tmp_path: Path) -> None:
    assert position_limit(load_model(gpt2, dtype="float32", device="cpu")) == 24
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    opt = OPTConfig(**sizes, ffn_dim=16, max_position_embeddings=40, word_embed_proj_dim=16, pad_token_id=1)
    assert position_limit(OPTForCausalLM(opt)) == 40
    assert position_limit(load_model(write_model(tmp_path / "m"), dtype="float32", device="cpu")) is None
    assert position_limit(GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, intermediate_size=16))) is None


@pytest.mark.parametrize("method", [Prefix(num_virtual_tokens=5), Prompt(num_virtual_tokens=5)])
def test_what_stands_before_every_row_takes_positions(method: Method, gpt2: Path) -> None:
    model = load_base(gpt2, method, dtype="float32", device="cpu")
    assert position_limit(training_method(method).attach(model, method, base=gpt2, base_name="x")) == 24 - 5


def test_an_answer_ends_where_the_positions_do_and_changes_no_other(gpt2: Path) -> None:
    model, tokenizer = load_model(gpt2, dtype="float32", device="cpu").eval(), load_tokenizer(gpt2, chat_template=None)
    prompts = [tuple(range(10, 10 + length)) for length in (24, 20, 3, 30)]
    together = generate(model, prompts, tokenizer, max_new_tokens=8)
    alone = [generate(model, [prompt], tokenizer, max_new_tokens=8)[0] for prompt in prompts]
    assert together == alone
    full, nearly, short, beyond = together
    assert (full.num_tokens, full.stopped) == (0, False) == (beyond.num_tokens, beyond.stopped)
    assert nearly.num_tokens <= 4 < 8
    assert short.num_tokens == 8 or short.stopped
