"""Reading files and folders: what is in them, what is passed over, and what is said of those that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdfs import pdf

from memos_mcp.documents import folders, formats
from memos_mcp.documents.split import split
from memos_mcp.errors import InvalidInput

CHINESE = "项目在五月开始,港口的船是红色的。\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-32", "gb18030", "gbk"]
)
def test_text_is_read_in_the_encodings_that_people_use(encoding: str) -> None:
    marked = "\ufeff" + CHINESE if encoding == "utf-16-le-bom" else CHINESE
    data = marked.encode("utf-16-le" if encoding == "utf-16-le-bom" else encoding)
    assert formats.read("a.txt", data).text == CHINESE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("Le café est fermé l'été.".encode("latin-1"), "neither UTF-8"),
        ("Überraschung für größere Häuser".encode("cp1252"), "neither UTF-8"),
        ("Привет, это письмо.".encode("cp1251"), "neither UTF-8"),
        ("Привет, это письмо о лодке и о гавани.".encode("koi8-r"), "neither UTF-8"),
        (b"PK\x03\x04\0\0binary", "NUL"),
        (b"\xff\xfea", "damaged"),
        (b"", "no text"),
        (b" \n\t", "no text"),
        ("\ufeff".encode(), "no text"),
    ],
)
def test_what_is_no_readable_text_is_said_and_never_guessed(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        formats.read("a.txt", data)


@given(st.binary(max_size=200), st.sampled_from(["a.txt", "a.md", "a.html", "a.pdf", "a.opml", "a"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused_in_a_sentence(data: bytes, name: str) -> None:
    said = ""
    try:
        assert formats.read(name, data).text.strip()
    except InvalidInput as error:
        said = str(error)
    assert said == "" or said.endswith(".")


def test_html_keeps_headings_lists_and_code_and_leaves_scripts_and_menus_out() -> None:
    html = """<!doctype html><html><head><meta charset="gb2312"><title> 港口 guide </title><style>p {}</style></head>
    <body><nav><a href="/">Home</a></nav><h1>Boats</h1><p>The <b>boat</b> is <a href="x">red</a>.</p>
    <h2>Knots</h2><ul><li>bowline<li>reef</ul><pre><code># not a heading\nx = 1</code></pre>
    <script>alert("no")</script><table><tr><th>a</th></tr><tr><td>1</td></tr></table></body></html>"""
    found = formats.read("a.html", html.encode("gb18030"))
    assert found.title == "港口 guide"
    assert [piece.title for piece in split(found.text, found.form)] == ["Boats", "Knots"]
    assert "The **boat** is red." in found.text
    assert "- bowline" in found.text
    assert not any(word in found.text for word in ("alert", "Home", "p {}"))


def test_html_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nested"):
        formats.read("a.html", b"<div>" * 20_000 + b"text")


def test_a_pdf_keeps_its_pages_and_its_bookmarks_become_headings() -> None:
    pages = [["Boats", "The boat is red."], ["More of boats."], ["Knots", "A bowline holds."]]
    data = pdf(pages, [("Boats", 0), ("Knots", 2)])
    found = formats.read("a.pdf", data)
    assert [found.text[at:].split("\n")[0] for at in found.pages] == ["Boats", "More of boats.", "Knots"]
    assert found.headings is not None
    assert [(one.title, found.text[one.offset :].split("\n")[0]) for one in found.headings] == [
        ("Boats", "Boats"),
        ("Knots", "Knots"),
    ]
    assert [piece.title for piece in split(found.text, found.form, found.headings)] == ["Boats", "Knots"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pdf([["secret"]], password="pw"), "password"),
        (pdf([[]]), "only pictures"),
        (b"%PDF-1.7 broken", "cannot be read"),
        (pdf([["text"]])[:-300], "cannot be read|only pictures"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_refused_with_the_next_step(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        formats.read("a.pdf", data)


def test_opml_becomes_an_outline_with_its_notes() -> None:
    data = b"""<?xml version="1.0"?><opml version="2.0"><head><title>Plans</title></head><body>
    <outline text="House"><outline text="Paint" _note="the wall&#10;green"/></outline><outline title="Boat"/>
    <outline/></body></opml>"""
    found = formats.read("a.opml", data)
    assert (found.title, found.form) == ("Plans", "outline")
    assert found.text == "- House\n  - Paint\n    the wall\n    green\n- Boat\n- (no title)\n"
    deep = b"<opml><body>" + b'<outline text="x">' * 3000 + b"</outline>" * 3000 + b"</body></opml>"
    assert len(split(formats.read("a.opml", deep).text, "outline")) == 3000


@pytest.mark.parametrize(
    "data",
    [
        b"<opml><body>",
        b"<html/>",
        b"<opml/>",
        b"<opml><body/></opml>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><opml><body><outline text="&b;"/></body></opml>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><opml><body><outline text="&a;"/></body></opml>',
    ],
)
def test_opml_that_is_none_or_wants_more_than_text_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="OPML"):
        formats.read("a.opml", data)


def test_a_walk_finds_documents_in_order_and_counts_what_it_passes_over(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "sub/c.HTML", "sub/deep/d.pdf", ".hidden.md", ".git/x.md", "node_modules/y.md",
                 "image.png", "out/z.md", "sub/draft.md", "sub/keep.md"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / ".gitignore").write_text("out/\n[z-a]\n!\n# remark\n", encoding="utf-8")
    (tmp_path / "sub" / ".gitignore").write_text("*.md\n!keep.md\n", encoding="utf-8")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "linked.md").symlink_to(tmp_path / "b.md")
    found = folders.walk(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found.files]
    assert names == ["a.txt", "b.md", "linked.md", "sub/c.HTML", "sub/deep/d.pdf", "sub/keep.md"]
    assert found.skipped == {"hidden": 4, "ignored": 3, "link": 2, "other": 1}
    assert found.problems == {}


def test_what_is_no_folder_or_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a folder"):
        folders.walk(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="--folder"):
        folders.content(tmp_path)
    with pytest.raises(InvalidInput, match="no such file"):
        folders.content(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="no ordinary file"):
        folders.content(tmp_path / "pipe")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(folders.MOST_BYTES + 1)
    with pytest.raises(InvalidInput, match="at most 20,000,000"):
        folders.content(tmp_path / "large.txt")
