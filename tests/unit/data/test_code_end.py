"""Code that breaks off is told from code that is whole, in whatever language."""

from __future__ import annotations

import time

import pytest

from finetune_exe.data.checks.ending import OpenEnd, open_end

WHOLE = {
    "python": 'def area(width, height):\n    """Give the area (in m2)."""\n    return width * height\n\nprint(area(3, 4))',
    "javascript": "function add(a, b) {\n  // the sum :(\n  return a + b;\n}\nconsole.log(add(1, 2));",
    "c": "int main(void) {\n  for (int i = 9; i > 0; i--) {\n    printf(\"(%d\", i);\n  }\n  return 0;\n}",
    "css": "body {\n  color: #fff;\n  background: url(http://example.org/a.png);\n}\np {\n  margin: 0;\n}",
    "sql": "SELECT name, count(*) -- all (of them\nFROM people\nWHERE age > 3\nGROUP BY name",
    "json": '{\n  "name": "Ada",\n  "tags": ["a", "b"],\n  "size": {\n    "x": 3\n  }\n}',
    "html": "<!DOCTYPE html>\n<html>\n<body>\n<p>It is so.\n<img src='a.png'>\n<div class='b'>And so.</div>\n</body>\n</html>",
    "bash": 'for f in *.txt; do\n  echo "$f"\n  mv "$f" "${f%.txt}.md"\ndone',
    "": "x = 3\ny = 4\nz = (x + y)\nprint(z)",
}  # fmt: skip
CUT = {
    "python": "def area(width, height):\n    return width * height\n\ndef rim(width, height):",
    "javascript": "function add(a, b) {\n  // the sum\n  return a + b;\n}\nfunction sub(a, b) {\n  return a",
    "c": "int main(void) {\n  for (int i = 0; i < 9; i++) {\n    puts(\"a\");\n  }\n  return 0;",
    "css": "body {\n  color: #fff;\n}\np {\n  margin: 0;\n  padding",
    "sql": "SELECT name, count(*)\nFROM people\nWHERE",
    "json": '{\n  "name": "Ada",\n  "tags": ["a", "b"],\n  "size": {\n    "x": 3',
    "html": "<!DOCTYPE html>\n<html>\n<body>\n<p>It is so.</p>\n<div class='b'>And so are the",
    "bash": '#!/bin/bash\n# Rename them.\nfor f in *.txt; do\n  mv "$f" "$(basename',
    "": "x = 3\ny = 4\nz = (x + y)\nif z == ",
}  # fmt: skip


def broken(text: str) -> bool:
    return open_end(text) is OpenEnd.BROKEN


ODD = [
    ("python", "width = 9\nhalf = (width // 2)\nsay = lambda: (half //\n    2)\nprint(half) # don't (yet"),
    ("javascript", "const a = text.replace(/\\//g, '(');\nconst b = a.replace(/^(#![^\\n]+)/, b => (b));\nuse(b);"),
    ("javascript", "module.exports = add;\nmodule.exports.two = sub;\nmodule.exports.usage = 'add a b'"),
    ("c", "#if A\n  if (a) {\n#else\n  if (b) {\n#endif\n    go();\n  }\n"),
    ("cmake", "#Put the files (where they are\nset(FILES a.c;\n  b.c)\nadd(FILES)"),
    ("bash", "A='one'\nB=\"two\"\nC=''"),
    ("bash", "awk '\n  { print \"a(\" }\n' file\necho $(ls)"),
    ("html", "<html>\n<body>\n<p>It has many(\n<br>more.</p>\n</body>\n</html>"),
    ("sql", "INSERT INTO names VALUES ('a (b');\nSELECT name -- the first (of all\nFROM names;"),
]


@pytest.mark.parametrize(("language", "code"), ODD)
def test_brackets_in_texts_remarks_and_patterns_open_nothing(language: str, code: str) -> None:
    assert not broken(f"```{language}\n{code}\n```")
    assert not broken(code)


@pytest.mark.parametrize("language", WHOLE)
def test_code_that_is_whole_is_not_accused(language: str) -> None:
    assert not broken(WHOLE[language])
    assert not broken(f"Here it is:\n\n```{language}\n{WHOLE[language]}\n```")


@pytest.mark.parametrize("language", CUT)
def test_code_that_breaks_off_is_found_bare_and_in_a_fence_that_was_closed(language: str) -> None:
    assert broken(CUT[language])
    assert broken(f"Here it is:\n\n```{language}\n{CUT[language]}\n```")


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{CUT['javascript']}\n```\n\nThe second function is for you to write.",
        "The rooms are:\n- the hall (large\n- the kitchen\n- the attic",
        "<Name>\n<Street>\n\nDear <Name>,\n\nplease send me the list of all <b>open</b> bills.\n\nYours",
        "```\n+-----+-----+\n| one | two |\n+-----+-----+\n```",
        "There are two ways (of many:\n1) call `sort`\n2) call `sorted`",
        "It is so :-(\nIt was so :-(\nIt will be so.",
        "0 <= x < 1 holds on [0, 1)\n1 <= x < 2 holds on [1, 2)\n2 <= x < 3 holds on [2, 3)",
    ],
)
def test_what_is_no_code_or_stands_before_more_is_left_alone(text: str) -> None:
    assert not broken(text)


def test_a_program_after_an_older_python_is_no_cut_one() -> None:
    assert not broken('```python\nprint "a"\nfor i in range(3):\n    print i\n```')


@pytest.mark.parametrize("sign", ["/*", "<!--", '"', "'", '"""', "(", "`x", "<a "])
def test_a_long_row_of_signs_takes_no_time(sign: str) -> None:
    begun = time.process_time()
    broken(f"```\n{sign * (18_000 // len(sign))}\n```")
    assert time.process_time() - begun < 0.5
