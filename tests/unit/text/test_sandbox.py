"""Hostile templates: fifty that try to get out, and some that try to take for ever or everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_exe.errors import FineTuneError
from finetune_exe.text import sandbox
from finetune_exe.text.conversation import Message
from finetune_exe.text.render import TemplateRefusedError, compile_template

TURNS = (Message(role="user", content="hi"), Message(role="assistant", content="ho"))
RUN = "('touch ' ~ tools)"
"""`tools` holds the path of a file that must never be."""
BUILT = "['__builtins__']['__import__']('os').popen" + RUN + ".read()"
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'][1]['__subclasses__']() }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f')|attr('\\x5f\\x5fbase\\x5f\\x5f')|attr('\\x5f\\x5fsubclasses\\x5f\\x5f')() }}",
    "{{ [].__class__.__base__.__subclasses__() }}",
    "{{ ().__class__.__bases__[0].__subclasses__()[40]('/etc/passwd').read() }}",
    "{{ {}.__class__.__base__.__subclasses__() }}",
    "{{ (1).__class__.__base__.__subclasses__() }}",
    "{{ self.__init__.__globals__" + BUILT + " }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen" + RUN + " }}",
    "{{ cycler.__init__.__globals__.os.popen" + RUN + ".read() }}",
    "{{ joiner.__init__.__globals__.os.popen" + RUN + ".read() }}",
    "{{ namespace.__init__.__globals__.os.popen" + RUN + ".read() }}",
    "{{ lipsum.__globals__['os'].popen" + RUN + ".read() }}",
    "{{ lipsum.__globals__.os.system" + RUN + " }}",
    "{{ range.__globals__" + BUILT + " }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ dict.mro() }}",
    "{{ raise_exception.__globals__" + BUILT + " }}",
    "{{ raise_exception.__code__.co_consts }}",
    "{{ raise_exception.__closure__ }}",
    "{{ strftime_now.__globals__" + BUILT + " }}",
    "{{ strftime_now.__self__ }}{{ strftime_now.__self__.popen }}",
    "{{ strftime_now.func_globals }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ messages.pop() }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update({'content': 'x'}) }}",
    "{{ messages[0].pop('content') }}",
    "{% set x = messages[0].setdefault('a', 1) %}{{ messages[0].__setitem__('content', 1) }}",
    "{{ loop.__init__.__globals__ }}",
    "{% for m in messages %}{{ loop.__init__.__globals__" + BUILT + " }}{% endfor %}",
    "{% for m in messages %}{{ loop._iterator.__reduce__() }}{% endfor %}",
    "{% macro f() %}{% endmacro %}{{ f.__init__.__globals__ }}",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__" + BUILT + " }}",
    "{% macro f() %}{% endmacro %}{{ f._environment.from_string('x') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}",
    "{{ '{m.__class__}'.format_map({'m': messages}) }}",
    "{{ ('{0.__class__.__mro__}' | string).format(1) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ ['{0.__class__}'] | map('format', 1) | list }}{{ ['{0.__class__.x}'.format] | map(attribute='__self__') | list }}",
    "{{ messages | map(attribute='__class__') | map(attribute='__mro__') | list }}",
    "{{ [messages] | map(attribute='__class__.__mro__') | first }}{{ ([messages] | map(attribute='__class__.__mro__') | first)[1] }}",
    "{{ messages | groupby('__class__') | list }}{{ (messages | groupby('__class__') | first).grouper.mro() }}",
    "{{ [1] | sort(attribute='__class__.__base__.__subclasses__') | first.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system" + RUN + " }}",
    "{% extends '/etc/passwd' %}",
    "{% from 'os' import system %}{{ system" + RUN + " }}",
    "{{ (x for x in ()).gi_frame.f_builtins }}",
    "{{ messages.sort.__self__.__class__.__base__ }}",
    "{{ get_flashed_messages.__globals__ }}{{ config.items() }}{{ request.application.__globals__ }}",
)  # fmt: skip
GREEDY = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{% set a = f(n - 1) %}{% set b = f(n - 1) %}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for m in [messages] recursive %}{{ loop([m]) }}{{ loop([m]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "{{ range(10 ** 9) | list }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 10 ** 9 * 'a' }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 10 ** 10 ** 10 ** 10 ** 10 }}",
    "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "{{ 'a'.center(10 ** 9) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{{ 'a' | center(1000000000) }}",
    "{{ ['a'] | map('center', 1000000000) | list }}",
    "{{ ('\\t' * 1000000).expandtabs(1000000) }}",
    "{{ ('a' * 10000).replace('a', 'b' * 10000) }}",
    "{{ ('a' * 10000) | replace('a', 'b' * 10000) }}",
    "{{ ('b' * 10000).join(['a'] * 10000) }}",
    "{{ (['a'] * 10000) | join('b' * 10000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:>1000000000}'.format('a') }}",
    "{{ '{:>{}}'.format('a', 1000000000) }}",
    "{{ ('\\n' * 10000) | indent(1000000) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ (1).to_bytes(1000000000, 'big') }}",
    "{{ lipsum(n=1000000000) }}",
    "{{ strftime_now('%1000000000Y') }}",
    "{% for i in range(99999) %}{{ 'spam' * 10000 }}{% endfor %}",
)  # fmt: skip


def render(source: str, tools: object = None) -> str:
    template = compile_template(source, special_tokens={"bos_token": "<s>"}, where="test")
    return template.render(TURNS, answer_next=True, columns={"tools": tools})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.2)
    return


def test_there_are_fifty() -> None:
    assert len(set(ESCAPES)) >= 50


@pytest.mark.parametrize("source", ESCAPES)
def test_no_template_gets_out(source: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    try:
        text = render(source, tools=str(canary))
    except (TemplateRefusedError, FineTuneError):
        text = ""
    assert not canary.exists()
    assert not any(sign in text for sign in ("<class", "<module", "root:", "<built-in", "<function", "subclasses"))
    assert [message.content for message in TURNS] == ["hi", "ho"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("source", GREEDY)
def test_no_template_takes_for_ever_or_everything(source: str) -> None:
    with pytest.raises((TemplateRefusedError, FineTuneError)):
        render(source)


def test_what_real_templates_use_still_works() -> None:
    source = (
        "{% set ns = namespace(text='') %}{% for m in messages %}{% set ns.text = ns.text ~ m.role ~ ':' + m['content'] | trim %}{% endfor %}"
        "{{ ns.text }}|{{ {'a': [1, 2]} | tojson }}|{{ 'a,b'.split(',')[-1] }}|{{ messages | map(attribute='role') | join('+') }}"
        "|{{ '%s-%d' % ('x', 3) }}|{{ '{}!'.format('y') }}|{{ 'ab' * 2 }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
        "|{{ 'a\nb' | indent(2) }}|{{ 'aXb'.replace('X', '-') }}|{{ messages[::-1][0].content }}|{{ [1, 2] + [3] }}|{{ 7 % 4 }}"
        "{% macro show(x) %}<{{ x }}>{% endmacro %}{{ show('z') }}{% for k, v in {'q': 1}.items() %}{{ k }}{{ v }}{% endfor %}"
    )  # fmt: skip
    expected = 'user:hiassistant:ho|{"a": [1, 2]}|b|user+assistant|x-3|y!|abab|1|a\n  b|a-b|ho|[1, 2, 3]|3<z>q1'
    assert render(source) == expected
