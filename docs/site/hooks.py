"""Fills the marks of reference.md from the code itself, and leads links to sources out of the site.
MkDocs calls it."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any

from tinyhil import errors
from tinyhil.harness import plugin
from tinyhil.harness.settings import Settings


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """`markdown` with every mark replaced, and files outside docs/ linked where they can be read."""
    markdown = re.sub(r"\]\(\.\./", f"]({config.repo_url}/blob/main/", markdown)
    for mark, made in (
        ("pytest options", pytest_options),
        ("fixtures", fixtures),
        ("settings", settings),
        ("errors", error_tree),
    ):
        line = f"<!-- {mark} -->"
        if line in markdown:
            markdown = markdown.replace(line, made())
    return markdown


class _Parser:
    """Stands for pytest's, and writes down what the plug-in adds."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def getgroup(self, *_: str) -> _Parser:
        return self

    def addoption(self, *names: str, **how: Any) -> None:
        value = how.get("metavar") or ("/".join(how["choices"]) if "choices" in how else "")
        words = " ".join((", ".join(names), value)).strip()
        self.rows.append((f"`{words}`", how["help"].replace("%(default)s", str(how.get("default")))))


def pytest_options() -> str:
    """A table of the plug-in's options."""
    parser = _Parser()
    plugin.pytest_addoption(parser, None)  # type: ignore[arg-type]
    return table(("option", "meaning"), parser.rows)


def fixtures() -> str:
    """A table of the plug-in's fixtures, from their docstrings."""
    found = [(name, value) for name, value in vars(plugin).items() if "Fixture" in type(value).__name__]
    return table(("fixture", "what it gives"), [(f"`{name}`", first(value)) for name, value in found])


def settings() -> str:
    """A table of the settings with their defaults."""
    rows = []
    for field in fields(Settings):
        if field.name != "root":
            default = "" if field.default is MISSING else f"`{field.default}`"
            rows.append((f"`{field.name}`", default))
    return f"{table(('key', 'default'), rows)}\n\n{inspect.getdoc(Settings)}"


def error_tree() -> str:
    """The tree at the top of the module of errors."""
    return f"```text\n{inspect.getdoc(errors)}\n```"


def first(value: Any) -> str:
    """The docstring's first paragraph on one line."""
    words = inspect.getdoc(inspect.unwrap(value)) or inspect.getdoc(value) or ""
    return " ".join(words.split("\n\n")[0].split())


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
