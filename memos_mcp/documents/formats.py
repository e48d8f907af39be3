"""Reads a file's bytes as a document: Markdown, HTML, PDF, OPML or plain text.

Knows nothing of folders or of storage. Why a file cannot be read is said in a sentence with the next step.
"""

from __future__ import annotations

import codecs
import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import PurePath
from typing import Any

from memos_mcp.documents import outline
from memos_mcp.documents.markup import Heading
from memos_mcp.documents.position import title_of
from memos_mcp.documents.split import Format
from memos_mcp.errors import InvalidInput

_MARKDOWN = (".md", ".markdown", ".mdown", ".mkd", ".mdx")
_PLAIN = (".txt", ".text", ".rst", ".org", ".adoc", ".tex", ".log")
_HTML = (".html", ".htm", ".xhtml")
SUFFIXES = frozenset((*_MARKDOWN, *_PLAIN, *_HTML, ".pdf", ".opml"))
"""What is taken from a folder; a file that is named by itself is read as plain text whatever its name."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]{2,40})", re.IGNORECASE)
_DROPPED = ("script", "style", "noscript", "template", "svg", "nav")
_PAIR = re.compile(rb"[\x81-\xfe][\x30-\xfe]")
_PAGE_BREAK = "\n\n"


@dataclass(frozen=True)
class Reading:
    """What was read of a file; `title` is its own, empty when it has none. See `manuscript.Manuscript`."""

    text: str
    form: Format
    title: str = ""
    headings: tuple[Heading, ...] | None = None
    pages: tuple[int, ...] = ()


def read(name: str, data: bytes) -> Reading:
    """The document in a file of this name.

    Raises:
        InvalidInput: it cannot be read, or holds no text; the sentence says what to do.
    """
    suffix = PurePath(name).suffix.lower()
    reader: Callable[[bytes], Reading] = _plain
    if suffix == ".pdf" or data[:5] == b"%PDF-":
        reader = _pdf
    elif suffix in _HTML:
        reader = _html
    elif suffix == ".opml":
        reader = _opml
    elif suffix in _MARKDOWN:
        reader = _markdown
    found = reader(data)
    if not found.text.strip():
        raise InvalidInput("It holds no text: there is nothing to remember.")
    return found


def decoded(data: bytes, declared: str | None = None) -> str:
    """Bytes as text: by their byte order mark, by what they declare, as UTF-8, or as GB18030 where that is Chinese.

    Raises:
        InvalidInput: they are none of these, or no text at all.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _strictly(data, name)
    if declared is not None:
        name = "gb18030" if declared.lower() in ("gb2312", "gbk") else declared
        try:
            return str(data.decode(name))
        except (LookupError, ValueError):
            pass
    if b"\0" in data:
        raise InvalidInput("It holds NUL bytes and no byte order mark: it is no text, or save it as UTF-8.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        if _is_chinese(data):
            return data.decode("gb18030")
    except UnicodeDecodeError:
        pass
    raise InvalidInput("Its characters are neither UTF-8, UTF-16 nor GB18030: save it as UTF-8 and add it again.")


def _strictly(data: bytes, name: str) -> str:
    try:
        return data.decode(name)
    except ValueError:
        raise InvalidInput(
            f"It begins like {name.upper()} and breaks off or is damaged: save it as UTF-8 and add it again."
        ) from None


def _is_chinese(data: bytes) -> bool:
    """Whether the bytes are GB18030 as Chinese is written: mostly its 3,755 common characters and their punctuation.

    Letters of other encodings form pairs too, which are rare characters, or have second bytes from a narrow range.
    """
    pairs = _PAIR.findall(data)
    usual = sum((0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1) or 0xA1 <= pair[0] <= 0xA3 for pair in pairs)
    low = sum(0xA1 <= pair[1] < 0xC0 for pair in pairs)
    return bool(pairs) and usual >= 0.8 * len(pairs) and (len(pairs) < 20 or low >= 0.1 * len(pairs))


def _plain(data: bytes) -> Reading:
    return Reading(decoded(data), "text")


def _markdown(data: bytes) -> Reading:
    text = decoded(data)
    return Reading(text, form_of(text))


def form_of(text: str) -> Format:
    """How a text whose writer may use Markdown is split."""
    return "outline" if outline.is_outline(text) else "markdown"


def _opml(data: bytes) -> Reading:
    text, title = outline.opml(data)
    return Reading(text, "outline", title)


def _html(data: bytes) -> Reading:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    declared = _CHARSET.search(data[:4096])
    text = decoded(data, declared[1].decode("ascii") if declared else None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks like a path, or like XML: that may be
            soup = BeautifulSoup(text, "html.parser")
            title = title_of(soup.title.get_text()) if soup.title is not None else ""
            for dropped in soup.find_all([*_DROPPED, "head"]):
                dropped.decompose()
            converter: Any = MarkdownConverter(heading_style="ATX", bullets="-", strip=["a", "img"])
            found = str(converter.convert_soup(soup))
    except RecursionError:
        raise InvalidInput("Its elements are nested too deeply to be read: save it as text and add that.") from None
    return Reading(re.sub(r"\n{3,}", "\n\n", found).strip() + "\n", "markdown", title)


def _pdf(data: bytes) -> Reading:
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = PdfReader(io.BytesIO(data), strict=False)
            if reader.is_encrypted and not reader.decrypt(""):
                raise InvalidInput("This PDF asks for a password: save it without one and add it again.")
            texts = [page.extract_text() for page in reader.pages]
            marks = list(_bookmarks(reader, reader.outline, 1))
            title = title_of(str(reader.metadata.title or "")) if reader.metadata else ""
    except _pdf_failures() as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise InvalidInput(f"This PDF cannot be read ({said}): print it to a new PDF, or save it as text.") from None
    if not "".join(texts).strip():
        raise InvalidInput("This PDF holds no text, only pictures of it: run text recognition (OCR) over it first.")
    return replace(_bound(texts, marks), title=title)


def _bound(texts: list[str], marks: list[tuple[int, int, str]]) -> Reading:
    """Pages joined to one text, with the bookmarks, given as (page, level, title), at the lines that they name."""
    joined = [page.rstrip() + _PAGE_BREAK for page in texts]
    pages, text = [0, *accumulate(map(len, joined[:-1]))], "".join(joined)
    headings: dict[int, Heading] = {}
    for page, level, title in marks:
        if 0 <= page < len(pages):
            end = pages[page + 1] if page + 1 < len(pages) else len(text)
            at = _line_of(text, title, pages[page], end)
            if at is not None and at not in headings:
                headings[at] = Heading(at, level, title)
    return Reading(text, "text", headings=tuple(headings[at] for at in sorted(headings)) or None, pages=tuple(pages))


def _line_of(text: str, title: str, start: int, end: int) -> int | None:
    """Where the line begins that says the title; else the first line of the page; None for a page without text."""
    wanted, first, at = "".join(title.split()).casefold(), None, start
    for line in text[start:end].splitlines(keepends=True):
        said = "".join(line.split()).casefold()
        if said and first is None:
            first = at
        if said and (said == wanted or (said.endswith(wanted) and len(said) <= len(wanted) + 8)):
            return at
        at += len(line)
    return first


def _bookmarks(reader: Any, entries: Any, level: int) -> Any:
    """The bookmarks of a PDF as (page, level, title)."""
    for entry in entries:
        if isinstance(entry, list):
            yield from _bookmarks(reader, entry, level + 1)
            continue
        page, title = reader.get_destination_page_number(entry), title_of(str(entry.title or ""))
        if page is not None and title:
            yield page, level, title


def _pdf_failures() -> tuple[type[Exception], ...]:
    """What a reader of PDF files raises over damaged ones."""
    import struct
    import zlib

    from pypdf.errors import DependencyError, PyPdfError

    return (
        PyPdfError, DependencyError, struct.error, zlib.error, ValueError, LookupError, TypeError, AttributeError,
        ArithmeticError, AssertionError, RuntimeError, OSError,
    )  # fmt: skip
