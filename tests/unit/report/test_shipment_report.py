"""What is said of an exported model."""

import shlex

import pytest

from finetune_exe.domain.shipment import Shipment, ShipmentForm, ShippedFile
from finetune_exe.report.shipment import render_shipment


def shipment(form: ShipmentForm, *names: str) -> Shipment:
    files = tuple(ShippedFile(name=name, num_bytes=1, sha256="0" * 64) for name in names)
    return Shipment(
        form=form, number_format="bfloat16", verdict="ready", objections=(), anyway=None, parities=(),
        num_prompts_tokenised=1, notes=(), files=files,
    )  # fmt: skip


def last_command(page: str) -> list[str]:
    return shlex.split(page.strip().splitlines()[-1])


def test_a_merged_model_is_asked_by_a_line_of_python_that_compiles() -> None:
    page = render_shipment(shipment("merged", "model.safetensors", "chat_template.jinja"), "my models/it's one")
    program, flag, code = last_command(page)
    assert (program, flag) == ("python3", "-c")
    compile(code, "pasted", "exec")
    assert '"my models/it\'s one"' in code


def test_ollama_is_told_where_the_modelfile_is() -> None:
    words = last_command(render_shipment(shipment("gguf", "model.gguf", "Modelfile"), "there"))
    assert words[:3] == ["cd", "there", "&&"]
    assert "ollama" in words


@pytest.mark.parametrize("names", [("adapter_model.safetensors",), ()])
def test_nothing_is_promised_of_what_no_single_command_loads(names: tuple[str, ...]) -> None:
    assert "USE IT" not in render_shipment(shipment("adapter", *names), "there")
