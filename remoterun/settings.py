"""What a setting is: one field of a definition, with the texts that help, reference and errors are made from; pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from remoterun.quantities import Duration, Size

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB"), (2**10, "KiB"), (1, "B"))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name with dots, and its field's type, default and meaning."""

    name: str
    type: Any  # with its Annotated, so that bounds are checked
    default: Any
    description: str
    is_path: bool
    has_flag: bool  # of `serve`, though it is a transport's

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "REMOTERUN_" + self.name.replace(".", "_").upper()

    @property
    def kind(self) -> str:
        """Its type in a word or two, for people."""
        return _kind(self.type)

    @property
    def default_text(self) -> str:
        """Its default as one would write it."""
        return _text(self.default)

    @property
    def is_list(self) -> bool:
        """Whether it holds several values."""
        return _is_list(_bare(self.type))

    @property
    def is_table(self) -> bool:
        """Whether it holds values by names of the user's: only a file can say those."""
        return get_origin(_bare(self.type)) is dict

    @property
    def is_scalar(self) -> bool:
        """Whether one word can say it."""
        return not self.is_list and not self.is_table


def walk(definition: type[Struct], prefix: str = "") -> Iterator[Setting]:
    """Iterate over the settings of a definition, those of nested ones with their section's name before a dot."""
    for field in msgspec.structs.fields(definition):
        name = prefix + field.encode_name
        section = section_of(field.type)
        if section is not None:
            yield from walk(section, f"{name}.")
            continue
        metas = _metas(field.type)
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
        yield Setting(
            name=name,
            type=field.type,
            default=default() if callable(default) else default,
            description=next((meta.description for meta in metas if meta.description), ""),
            is_path=any((meta.extra or {}).get("path") for meta in metas),
            has_flag=any((meta.extra or {}).get("flag") for meta in metas),
        )


def section_of(kind: Any) -> type[Struct] | None:
    """Give the definition that a field's type is, or None where it is a value."""
    bare = _bare(kind)
    return bare if isinstance(bare, type) and issubclass(bare, Struct) else None


def convert(value: Any, kind: Any, *, strict: bool) -> Any:
    """Give a value as a setting's type.

    Parameters:
        strict: whether a text is taken for a text only, as in a file; from the environment it may be a number.

    Raises:
        ValueError: it is of another type, or out of bounds; the text says what was expected.
    """
    try:
        return msgspec.convert(value, kind, strict=strict, dec_hook=_custom)
    except msgspec.ValidationError as error:
        if get_origin(_bare(kind)) is Literal:
            raise ValueError(f"{value!r} is none of {_kind(kind)}") from error
        raise


def reference(sections: Mapping[str, type[Struct]], node: type[Struct]) -> str:
    """Give the reference of all settings as a Markdown table.

    Parameters:
        sections: the transports' definitions, by name of their section.
        node: the definition of the node's own settings.
    """
    settings = [*walk(node)]
    for name, definition in sections.items():
        settings += walk(definition, f"{name}.")
    rows = ["| setting | type | default | environment | meaning |", "|---|---|---|---|---|"]
    for setting in settings:
        variable = "" if setting.is_table else f"`{setting.variable}`"
        rows.append(
            f"| `{setting.name}` | {_cell(setting.kind)} | {_code(setting.default_text)} | {variable} "
            f"| {_cell(setting.description)} |"
        )
    return "\n".join(rows) + "\n"


def script_reference(definition: type[Struct]) -> str:
    """Give the reference of a script's own settings as a Markdown table."""
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{setting.name}` | {_cell(setting.kind)} | {_code(setting.default_text)} | {_cell(setting.description)} |"
        for setting in walk(definition)
    ]
    return "\n".join(rows) + "\n"


def _custom(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"Expected {_kind(kind)}, got `{type(value).__name__}`")
    if kind is Size and isinstance(value, float):
        raise ValueError("Expected a size, got `float`; write it like 512MB or 16MiB")
    return kind.parse(value)  # type: ignore[attr-defined]


def _metas(kind: Any) -> list[Meta]:
    return [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)]


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in (tuple, list, frozenset, set)


_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "number",
    float: "number",
    str: "text",
    Duration: "duration",
    Size: "size",
    types.NoneType: "nothing",
}


def _kind(kind: Any) -> str:
    bare = _bare(kind)
    if bare in _KINDS:
        return _KINDS[bare]
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_kind(argument) for argument in arguments if argument is not types.NoneType)
    if _is_list(bare):
        return f"list of {_kind(arguments[0])}s" if arguments else "list"
    return "table" if origin is dict else getattr(bare, "__name__", str(bare))


def _text(value: Any) -> str:
    if isinstance(value, Duration):
        return _in_units(value)
    if isinstance(value, Size):
        return _in_sizes(value)
    if value is None or isinstance(value, (dict, msgspec.UnsetType)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list, set, frozenset)):
        return ", ".join(map(_text, value))
    return str(value)


def _in_units(seconds: float) -> str:
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    for length, unit in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds else "0"


def _in_sizes(count: int) -> str:
    for size, unit in _SIZES:
        if count and count % size == 0 and (size < 10**6 or count // size < 1024):
            return f"{count // size}{unit}"
    return str(int(count))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
