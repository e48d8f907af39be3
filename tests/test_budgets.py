"""The habits that keep this code readable, counted: each test names every place that is over its budget."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "memos_mcp", ROOT / "tests"
BROAD_HANDLERS, READERS_OF_ENVIRONMENT = 3, 1
COMPLEXITY, FUNCTION_LINES, FILE_LINES = 15, 80, 500
MOCKS_PER_THOUSAND_LINES = 3
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|placeholder|coming soon|for now|not yet implemented)\b", re.IGNORECASE)
MOCK = re.compile(r"\bMagicMock\b|\bAsyncMock\b|\bpatch\(|monkeypatch\.setattr")
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
JUDGES = ("raises", "warns", "fail")

Place = tuple[Path, ast.AST]


def modules(folder: Path) -> list[tuple[Path, str]]:
    """Every Python file of a folder, with its text."""
    found = [(path, path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))]
    assert found, f"nothing was found in {folder}"
    return found


@cache
def nodes(folder: Path) -> list[Place]:
    return [(path, node) for path, text in modules(folder) for node in ast.walk(ast.parse(text))]


def shown(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {getattr(node, 'name', '') or ''}".rstrip()


def where(folder: Path, judge: Callable[[ast.AST], bool]) -> list[str]:
    """The places whose node the judge picks out."""
    return [shown(path, node) for path, node in nodes(folder) if judge(node)]


def is_broad_handler(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in caught)


def reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in ("environ", "getenv") for alias in node.names)
    return isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.environb")


def complexity(function: ast.AST) -> int:
    """One and every way to go another way: branches, loops, handlers, and each further operand of and / or."""
    ways = 1
    for node in ast.walk(function):
        ways += isinstance(node, BRANCHES)
        ways += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return ways


def is_too_complex(node: ast.AST) -> bool:
    return isinstance(node, FUNCTIONS) and complexity(node) > COMPLEXITY


def is_too_long(node: ast.AST) -> bool:
    return isinstance(node, FUNCTIONS) and (node.end_lineno or 0) - node.lineno > FUNCTION_LINES


def does_nothing(node: ast.AST) -> bool:
    """A function whose body only says that it is not there."""
    return isinstance(node, FUNCTIONS) and any("NotImplementedError" in ast.unparse(step) for step in node.body[:2])


def judges(node: ast.AST, known: frozenset[str] = frozenset()) -> bool:
    """Whether something is asserted in there: by a statement, by pytest, or by a function known to do so."""
    for inner in ast.walk(node):
        called = getattr(inner.func, "id", getattr(inner.func, "attr", "")) if isinstance(inner, ast.Call) else ""
        if isinstance(inner, ast.Assert) or called in JUDGES or called in known or called.startswith("assert_"):
            return True
    return False


@cache
def judging() -> frozenset[str]:
    """Names of the tests' own functions that assert something for those who call them."""
    return frozenset(node.name for _, node in nodes(TESTS) if isinstance(node, FUNCTIONS) and judges(node))


def asserts_nothing(node: ast.AST) -> bool:
    return isinstance(node, FUNCTIONS) and node.name.startswith("test") and not judges(node, judging())


def sleeps(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "time.sleep",
        "sleep",
        "anyio.sleep",
        "asyncio.sleep",
    )


def test_only_the_outermost_boundaries_catch_everything() -> None:
    found = where(PACKAGE, is_broad_handler)
    assert len(found) <= BROAD_HANDLERS, found


def test_one_module_reads_the_environment() -> None:
    found = {place.partition(":")[0] for place in where(PACKAGE, reads_environment)}
    assert len(found) <= READERS_OF_ENVIRONMENT, found


@pytest.mark.parametrize("judge", [is_too_complex, is_too_long, does_nothing], ids=lambda judge: judge.__name__)
def test_functions_stay_small_and_whole(judge: Callable[[ast.AST], bool]) -> None:
    assert where(PACKAGE, judge) == []


def test_files_stay_small() -> None:
    assert [str(path.relative_to(ROOT)) for path, text in modules(PACKAGE) if text.count("\n") > FILE_LINES] == []


def test_nothing_says_that_it_is_unfinished() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in modules(PACKAGE)
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_tests_assert_and_do_not_sleep() -> None:
    assert where(TESTS, asserts_nothing) == []
    assert where(TESTS, sleeps) == []


def test_tests_replace_next_to_nothing() -> None:
    texts = [text for path, text in modules(TESTS) if path.name != Path(__file__).name]
    mocks, lines = sum(len(MOCK.findall(text)) for text in texts), sum(text.count("\n") for text in texts)
    assert mocks * 1_000 <= MOCKS_PER_THOUSAND_LINES * lines, f"{mocks} in {lines} lines"


@pytest.mark.parametrize(
    ("source", "judge"),
    [
        ("try: pass\nexcept (OSError, Exception): pass", is_broad_handler),
        ("try: pass\nexcept: pass", is_broad_handler),
        ("import os\nx = os.getenv('A')", reads_environment),
        ("from os import environ", reads_environment),
        ("def f(a):\n" + "".join(f"  if a == {n} and a: pass\n" for n in range(8)), is_too_complex),
        ("def f():\n" + "  pass\n" * 81, is_too_long),
        ("def f():\n  raise NotImplementedError", does_nothing),
        ("def test_f():\n  print(1)", asserts_nothing),
        ("import time\ntime.sleep(1)", sleeps),
    ],
)
def test_the_judges_see_what_they_judge(source: str, judge: Callable[[ast.AST], bool]) -> None:
    assert any(judge(node) for node in ast.walk(ast.parse(source)))


def test_imports_point_down() -> None:
    script = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if script is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
