"""Results worth looking at, inside a worker: pictures and tables become artifacts; standard library only.

None of the libraries is imported: a value that one of them made has brought it along.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_MOST_ROWS = 1000  # of a table, in its JSON; the file has all of them
_LONGEST = 100  # characters of an artifact's name


def exhibit(value: Any, path: str, folder: str) -> tuple[list[str], Any]:
    """Write what a value looks like into files, and give their names and the value's own JSON form, or None.

    Parameters:
        path: of the value in the result: `result.plot`; the files are named by it.
        folder: of the job's artifacts.
    """
    names: list[str] = []

    def write(suffix: str, content: bytes | str) -> None:
        name = _free_name(folder, path, suffix)
        with open(f"{folder}/{name}", "wb") as file:
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
        names.append(name)

    form = None
    if _is_made_by("pandas", "DataFrame", value):
        write(".csv", value.to_csv(index=not _has_plain_index(value)))
        form = _table(value)
    elif _is_made_by("matplotlib.figure", "Figure", value):
        write(".png", _figure(value))
        return names, None
    elif _is_made_by("PIL.Image", "Image", value):
        write(".png", _picture(value))
        return names, None
    for method, suffix in (("_repr_png_", ".png"), ("_repr_html_", ".html"), ("_repr_markdown_", ".md")):
        content = _asked(value, method)
        if content is not None:
            write(suffix, _decoded(content) if suffix == ".png" else content)
    if form is not None:
        form = {"artifacts": names, **form}
    return names, form


def _is_made_by(module: str, name: str, value: Any) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _figure(figure: Any) -> bytes:
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _picture(image: Any) -> bytes:
    import io

    file = io.BytesIO()
    fits = image.mode in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
    (image if fits else image.convert("RGB")).save(file, format="PNG")
    return file.getvalue()


def _table(frame: Any) -> dict[str, Any]:
    """Give a table's JSON: its first rows, with null where a cell is empty, and how many there are."""
    total = len(frame)
    head = frame.head(_MOST_ROWS)
    if not _has_plain_index(frame):
        head = head.reset_index()
    cells = head.astype(object)
    rows = cells.where(cells.notna(), None).values.tolist()
    return {"columns": [str(name) for name in head.columns], "rows": rows, "total": total}


def _has_plain_index(frame: Any) -> bool:
    """Whether the rows are only numbered."""
    return _is_made_by("pandas", "RangeIndex", frame.index) and frame.index.name is None


def _asked(value: Any, method: str) -> Any:
    """Ask a value how it looks; None where it does not say. It may add metadata, as for a notebook."""
    asked = getattr(value, method, None)
    content = asked() if callable(asked) else None
    return content[0] if isinstance(content, tuple) else content


def _decoded(content: Any) -> Any:
    """Give a picture's bytes; a notebook also takes them in base64."""
    if not isinstance(content, str):
        return content
    import base64

    return base64.b64decode(content)


def _free_name(folder: str, path: str, suffix: str) -> str:
    inner = path[len("result.") :] if path.startswith("result.") else path
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in inner).strip(".-")[:_LONGEST] or "result"
    name, number = stem + suffix, 2
    while os.path.lexists(f"{folder}/{name}"):
        name = f"{stem}-{number}{suffix}"
        number += 1
    return name
