"""What a docstring says about each parameter, in the styles of Google, NumPy and Sphinx."""

from __future__ import annotations

import re

_SPHINX = re.compile(r"^\s*:(param|parameter|arg|argument)\b", re.MULTILINE)
_NUMPY = re.compile(r"^\s*(Other )?Parameters\s*\n\s*-{3,}", re.MULTILINE)
_GOOGLE = re.compile(
    r"^(args|arguments|params|parameters|keyword args|keyword arguments|other parameters):", re.I | re.M
)


_STYLES = {"sphinx": "REST", "numpy": "NUMPYDOC", "google": "GOOGLE"}  # names in docstring_parser


def first_line(doc: str) -> str:
    """Give the docstring's first line."""
    return doc.strip().partition("\n")[0].strip()


def parameter_docs(doc: str) -> dict[str, str]:
    """Give what the docstring says about each parameter that it describes."""
    style = _style(doc)
    if style is None:
        return {}
    import docstring_parser  # here: it costs 20 ms and 3 MB, and not every node needs it

    try:
        parsed = docstring_parser.parse(doc, docstring_parser.DocstringStyle[_STYLES[style]])
    except docstring_parser.ParseError:
        return {}
    return {item.arg_name.lstrip("*"): " ".join((item.description or "").split()) for item in parsed.params}


def _style(doc: str) -> str | None:
    if _SPHINX.search(doc):
        return "sphinx"
    if _NUMPY.search(doc):
        return "numpy"
    return "google" if _GOOGLE.search(doc) else None
