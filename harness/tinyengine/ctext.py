"""C text: numbers, arrays, comments and templates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

_LINE = 100


def c_int(value: int) -> str:
    """An integer constant that may stand behind any operator."""
    return f"({value})" if value < 0 else str(value)


def c_plus(value: int) -> str:
    """What follows an expression to add `value`: ` + 3`, ` - 128` or nothing."""
    return "" if value == 0 else f" + {value}" if value > 0 else f" - {-value}"


def c_times(name: str, factor: int) -> str:
    """`name * factor`, or just the name."""
    return name if factor == 1 else f"{name} * {factor}"


def c_int32(value: int) -> str:
    """An int32 constant; INT32_MIN has no literal of its own in C."""
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def c_array(values: npt.NDArray[Any] | Iterable[int]) -> str:
    """The inside of an initialiser, wrapped at about 100 columns."""
    flat = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else list(values)
    lines: list[str] = []
    line = "   "
    for value in flat:
        text = f" {c_int32(int(value))},"
        if len(line) + len(text) > _LINE:
            lines.append(line)
            line = "   "
        line += text
    lines.append(line)
    return "\n".join(lines).rstrip(",")


def c_float(value: float) -> str:
    """A float constant that reads back to the same float32."""
    text = f"{float(np.float32(value)):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def safe_comment(text: str) -> str:
    """`text` as it may stand in a C comment: printable ASCII without comment marks, at most 100 characters.
    Names from a model file come through here and reach C nowhere else."""
    return re.sub(r"[^A-Za-z0-9_ .,:;=>+-]", "_", text)[:100]


def c_name(text: str) -> str:
    """`text` as the end of a C identifier: lower-case letters, digits and single underscores, at most 40."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40] or "unnamed"


def stream_text(name: str, stream: npt.NDArray[np.int32]) -> str:
    """C text of `static const int32_t NAME_stream[]`: packed weights and constants."""
    return f"static const int32_t {name}_stream[{stream.size}] = {{\n{c_array(stream)}\n}};\n"


def kernels_folder() -> Path:
    """The folder of the kernel templates, in a checkout as in an installed package."""
    return Path(str(resources.files("tinyhil"))) / "firmware_templates" / "kernels"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(kernels_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(c_array=c_array, c_int=c_int, plus=c_plus, times=c_times)
    return environment


def render(template: str, **values: Any) -> str:
    """The template of this name in firmware_templates/kernels/, filled in."""
    text = _environment().get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def static_text(name: str) -> str:
    """A helper file of firmware_templates/kernels/ as it is."""
    return (kernels_folder() / name).read_text()
