"""PEP 723 blocks: what is one, what its TOML says, and where it is wrong."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.catalog.defect import Defect
from remoterun.catalog.metadata import Metadata, parse, unclosed

BLOCK = """\
#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pillow>=10",
# ]
#
# [tool.remoterun]
# timeout = "30s"
# ///
print("hi")
"""


def test_a_block_gives_its_table() -> None:
    assert parse(BLOCK).table == {
        "requires-python": ">=3.11",
        "dependencies": ["pillow>=10"],
        "tool": {"remoterun": {"timeout": "30s"}},
    }
    assert parse(BLOCK).settings == {"timeout": "30s"}


def test_windows_line_ends_change_nothing() -> None:
    assert parse(BLOCK.replace("\n", "\r\n")).table == parse(BLOCK).table


@pytest.mark.parametrize(
    ("key", "line"), [("requires-python", 3), ("dependencies", 4), ("timeout", 9), ("nothing", None)]
)
def test_settings_have_lines(key: str, line: int | None) -> None:
    assert parse(BLOCK).line_of(key) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "print('hi')\n",
        "# /// script\n# a = 1\n",  # never closed
        "# /// script\n# ///\n",  # without content
        "#/// script\n# a = 1\n# ///\n",
        "# /// script \n# a = 1\n# ///\n",
        " # /// script\n # a = 1\n # ///\n",
        "# /// other\n# a = 1\n# ///\n",
        "# /// script\n#a = 1\n# ///\n",  # content needs a space after #
    ],
)
def test_what_is_no_block_is_no_metadata(text: str) -> None:
    assert parse(text) == Metadata()


def test_a_block_of_another_type_stands_beside_it() -> None:
    assert parse("# /// other\n# b = 2\n# ///\n\n# /// script\n# a = 1\n# ///\n").table == {"a": 1}


def test_the_last_closing_line_closes() -> None:
    # The specification: a `# ///` inside belongs to the content if the block goes on after it.
    text = '# /// script\n# a = """\n# ///\n# """\n# ///\n'
    assert parse(text).table == {"a": "///\n"}


def test_two_blocks_are_refused_with_the_line_of_the_second() -> None:
    with pytest.raises(Defect, match="two metadata blocks") as caught:
        parse("# /// script\n# a = 1\n# ///\n\n# /// script\n# a = 1\n# ///\n")
    assert caught.value.line == 5


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("# a = 1\n# b = \n", 3),
        ("# a = 1\n# a = 2\n", 3),
        ("# [tool\n", 2),
        ("# a = 1\n#\n# = 3\n", 4),
        ("# a = [\n# 1,\n", 3),
    ],
)
def test_bad_toml_is_refused_with_its_line(content: str, line: int) -> None:
    with pytest.raises(Defect, match="is no TOML") as caught:
        parse(f"# /// script\n{content}# ///\n")
    assert caught.value.line == line


def test_deep_toml_is_refused() -> None:
    with pytest.raises(Defect):
        parse(f"# /// script\n# a = {'[' * 5000}{']' * 5000}\n# ///\n")


def test_an_unclosed_block_is_found() -> None:
    assert unclosed("import os\n# /// script\n# a = 1\nprint()\n") == 2
    assert unclosed(BLOCK) is None
    assert unclosed("print()\n") is None


def defect_of(text: str) -> Defect | None:
    """Give why a text's metadata is refused; anything but the declared error fails the test."""
    try:
        parse(text)
    except Defect as defect:
        return defect
    return None


@given(st.text())
def test_any_text_gives_metadata_or_the_declared_error(text: str) -> None:
    defect = defect_of(text)
    assert defect is None or defect.line is not None


@given(st.lists(st.sampled_from(["# /// script", "# ///", "# a = 1", "#", "# [tool.remoterun]", "x", "", "# b = ["])))
def test_any_order_of_telling_lines_gives_metadata_or_the_declared_error(lines: list[str]) -> None:
    defect = defect_of("\n".join(lines) + "\n")
    assert defect is None or defect.line in range(1, len(lines) + 1)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(-(2**31), 2**31) | st.booleans(), min_size=1
    ),
    st.text(alphabet="abc \n", max_size=20),
)
def test_what_is_written_into_a_block_comes_out(table: dict[str, int | bool], before: str) -> None:
    toml = [f"{key} = {str(value).lower()}" for key, value in table.items()]
    text = before + "\n# /// script\n" + "".join(f"# {line}\n" for line in toml) + "# ///\nprint()\n"
    metadata = parse(text)
    assert metadata.table == table == tomllib.loads("\n".join(toml))
    for key in table:
        line = metadata.line_of(key)
        assert line is not None
        assert text.split("\n")[line - 1].startswith(f"# {key} =")
