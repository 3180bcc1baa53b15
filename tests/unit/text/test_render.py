"""Chat templates run in a sandbox: they render, and can do nothing else."""

from __future__ import annotations

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.text import sandbox
from finetune_exe.text.conversation import Message
from finetune_exe.text.render import TemplateRefusedError, compile_template

TURN = (Message(role="user", content="hi"),)


def rendered(source: str) -> str:
    return compile_template(source, special_tokens={"bos_token": "<s>"}, where="test").render(
        TURN, answer_next=True, columns={"tools": [{"name": "f"}]}
    )


def test_templates_get_what_they_expect() -> None:
    source = "{{ bos_token }}{{ tools | tojson }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}"
    assert rendered(source) == '<s>[{"name": "f"}]hi'
    assert rendered("{{ strftime_now('%Y') | length }}") == "4"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ self.__init__.__globals__.__builtins__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_hostile_templates_reach_nothing(source: str) -> None:
    with pytest.raises(TemplateRefusedError):
        rendered(source)


def test_a_template_that_writes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_CHARACTERS", 1000)
    with pytest.raises(TemplateRefusedError, match="too much"):
        rendered("{% for i in range(99999) %}{{ 'spam' }}{% endfor %}")
    monkeypatch.setattr(sandbox, "MAX_CHARACTERS", 10**9)
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.05)
    with pytest.raises(TemplateRefusedError, match="too long"):
        rendered("{% for i in range(99999) %}{% for j in range(99999) %}{{ j }}{% endfor %}{% endfor %}")


def test_a_broken_template_is_named_with_its_line() -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-D06\]") as caught:
        compile_template("a\n{% for %}", special_tokens={}, where="x.jinja")
    assert "x.jinja, line 2" in caught.value.where
