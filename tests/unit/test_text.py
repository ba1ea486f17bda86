"""Text from outside stays text in terminals, Markdown, JSON and file systems."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from truepixel_dagster.stages.stage import REJECTING as STAGES
from truepixel_dagster.text import code, file_name, printable, printable_json

ROOT = Path(__file__).parents[2]
# Code points as they come, and far more of those that matter.
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "\x00\x07\x08\x09\n\x0b\x0c\r\x1b\x7f\x80\x85\x90\x9b\x9d\xad\u061c\u200b\u200d\u200e\u202e\u2028"
        ),
        st.sampled_from("\u2029\u2060\u2066\u2069\ufeff\ufff9\ufe0f\u3164\u115f\u034f\ud800\udfff\U000e0041\U000e0100"),
        st.sampled_from("[/]bold`*_<script>![](//a.b)\"\\'{}#"),
    ),
    max_size=60,
)


def visible(text: str) -> bool:
    """Judge by Unicode's categories, unlike the code: control, format, surrogate, line, paragraph, none."""
    return not any(
        unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or c in INVISIBLE for c in text
    )


INVISIBLE = set("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\uffa0") | {
    chr(point) for point in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


@given(HOSTILE)
@example("\x1b]0;owned\x07\x9b31m\u202egpj.exe\u200b\r\n")
def test_no_invisible_character_is_printed(text: str) -> None:
    assert visible(printable(text))
    assert visible(printable(text, keep="\n").replace("\n", ""))


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=40))
def test_visible_characters_stay(text: str) -> None:
    if text.isprintable() and visible(text) and "\u2800" not in text:
        assert printable(text) == text


def test_escapes_say_what_they_stand_for() -> None:
    assert printable("a\x1b[31mb\n\u202ec\x9b\U000e0001") == r"a\x1b[31mb\n\u202ec\x9b\U000e0001"
    assert printable("[/] 50 % – 日本語 ❤") == "[/] 50 % – 日本語 ❤"


@given(st.recursive(HOSTILE, lambda inner: st.lists(inner) | st.dictionaries(HOSTILE, inner), max_leaves=5))
def test_json_stays_exact(value: object) -> None:
    for text in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2)):
        shown = printable_json(text)
        assert json.loads(shown) == json.loads(text) == value
        assert visible(shown.replace("\n", ""))


@given(HOSTILE)
def test_code_in_markdown_ends_where_it_should(text: str) -> None:
    shown = code(text)
    assert (shown[0], shown[-1]) == ("`", "`")
    assert "`" not in shown[1:-1]
    assert visible(shown)


@given(HOSTILE)
@example("../../etc/passwd")
@example("..")
@example("a" * 5000)
@example("CON")
@example("a\0b/c\\d:e")
def test_a_file_name_is_one_in_its_folder(text: str) -> None:
    name = file_name("data-request", text, ".jsonl")
    assert Path("/folder", name).parent == Path("/folder")
    assert name.isascii()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert name.count(".") == 1
    assert len(name) <= 150


@given(HOSTILE, HOSTILE)
@example("a/b", "a-b")
@example("x" * 300 + "1", "x" * 300 + "2")
@example("Shop", "shop")
def test_file_names_of_two_texts_differ_whatever_the_system_folds(one: str, other: str) -> None:
    names = [file_name("data-request", text, ".jsonl").lower() for text in (one, other)]
    assert (names[0] == names[1]) == (one == other)


# Text from outside passes through one function before it is shown; these tests check the source for that.


def calls(words: str) -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call in a source that has one of some words, with what it calls."""
    folders = ("truepixel_dagster", "assets", "sensors")
    for path in [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if re.search(words, source) else ():
            if isinstance(node, ast.Call):
                yield path, node, ast.unparse(node.func)


def test_nothing_but_one_module_writes_to_a_terminal() -> None:
    found = list(calls(r"\bprint\(|Console|Table|secho|\.write\(|click\.echo"))
    assert {"Console", "Table", "click.echo"} <= {name for _, _, name in found}
    for path, call, name in found:
        if path.name == "terminal.py":
            continue
        line = f"{path.name}:{call.lineno} {name}"
        assert name not in {"print", "Console", "Table", "click.secho", "sys.stderr.write", "sys.stdout.write"}, line
        # `line` is JSON without such characters: test_json_stays_exact.
        assert name != "click.echo" or ast.unparse(call.args[0]) == "line(item)", line


def test_what_dagster_shows_is_printable() -> None:
    found = list(calls(r"SkipReason|context\.log|MetadataValue"))
    assert {"dg.SkipReason", "context.log.info", "dg.MetadataValue.md"} <= {name for _, _, name in found}
    for path, call, name in found:
        line = f"{path.name}:{call.lineno} {ast.unparse(call)}"
        if name.endswith(("SkipReason", "context.log.info", "context.log.warning", "context.log.error")):
            constant = isinstance(call.args[0], ast.Constant)
            assert constant or ast.unparse(call.args[0]).startswith("printable("), line
        # A picture has no text from outside in its Markdown.
        is_picture = bool(call.args) and ast.unparse(call.args[0]).startswith("as_picture(")
        assert is_picture or not name.endswith(("MetadataValue.md", "MarkdownMetadataValue")), line


def test_stages_are_names() -> None:
    assert all(stage.isidentifier() for stage in STAGES), "they are labels of metrics and keys of metadata"
