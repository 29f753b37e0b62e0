"""No file over 350 lines, no function over 60: what is longer is two things."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60
FOLDERS = ("events", "projections", "service", "tests")

FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def shown(path: Path) -> str:
    """A file as people know it."""
    return path.relative_to(ROOT).as_posix()


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, from its name to its end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_were_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_too_long(folder: str) -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in FILES}
    too_long = {
        name: lines
        for name, lines in lengths.items()
        if lines > FILE_LINES_MAX and name.startswith(f"{folder}/")
    }
    assert too_long == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_too_long(folder: str) -> None:
    too_long = {
        f"{shown(path)}:{node.lineno} {node.name}": length(node)
        for path in FILES
        if shown(path).startswith(f"{folder}/")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length(node) > FUNCTION_LINES_MAX
    }
    assert too_long == {}
