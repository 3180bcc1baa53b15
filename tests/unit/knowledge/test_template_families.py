"""Models and templates are of one family where their names say so, and of none by chance."""

import pytest

from finetune_exe.knowledge.template_families import families_named


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {"llama3"}), ("llama2", {"llama2"}), ("Qwen/Qwen2.5-7B", {"qwen"}),
        ("mistralai/Mixtral-8x7B-v0.1", {"mistral"}), ("microsoft/phi-2", {"phi"}), ("phi", {"phi"}),
        ("phi_small", {"phi"}), ("someone/dolphin-13b", set()), ("intern2", {"internlm"}),
        ("internlm/internlm2-chat-7b", {"internlm"}), ("our/internal-model", set()), ("01-ai/Yi-6B", {"yi"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}), ("default", set()),
    ],
)  # fmt: skip
def test_a_name_says_its_family(name: str, families: set[str]) -> None:
    assert families_named(name) == families
