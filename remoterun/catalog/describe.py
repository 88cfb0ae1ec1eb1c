"""Describe a script: from its text alone where that suffices, else from what importing it elsewhere told."""

from __future__ import annotations

import io
import math
import sys
import threading
import time
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import pydantic
from msgspec import Struct

import remoterun
from remoterun.catalog import docs, importing, metadata, names, requirements, schemas, signature, typed
from remoterun.catalog.annotations import Unresolved
from remoterun.catalog.defect import Defect
from remoterun.catalog.parameters import Parameters, Typed
from remoterun.catalog.scan import Found
from remoterun.catalog.schemed import Schemed, make_validator
from remoterun.catalog.settings import ScriptSettings, load, select_environment
from remoterun.catalog.versions import Versions, read_script
from remoterun.config import Limits
from remoterun.environments.folder import EnvironmentFolder
from remoterun.environments.needs import Needs
from remoterun.messages import ScriptInfo
from remoterun.workers.interface import Program

# What was noted by another version of any of these is learned once more.
_MADE_BY = f"{remoterun.__version__} pydantic {pydantic.VERSION} python {sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True, slots=True)
class Script:
    """One version of one script."""

    name: str
    info: ScriptInfo  # `broken` is set when it cannot be called
    program: Program | None  # None: broken
    settings: ScriptSettings
    parameters: Parameters | None  # None: a plain script
    needs: Needs | None = None  # of an environment of its own; None: it runs in the node's
    needs_line: int | None = None  # where in the file it says so


@dataclass(frozen=True, slots=True)
class Outcome:
    """A script as far as it could be described."""

    script: Script
    pending: bool = False  # its parameters are known only once it was imported
    defect: Defect | None = None  # what breaks it
    imports: Mapping[str, str] = field(default_factory=dict)  # modules that its description rests on: path → SHA-256
    read: int = 0  # when the file was read, in nanoseconds since the epoch


class Notes(Struct, frozen=True, kw_only=True):
    """What was learned about a version, kept beside its copy."""

    made_by: str
    kind: Literal["function", "plain"]
    doc: str
    parameters: dict[str, Any] | None = None
    written: typed.Written | None = None  # None: only its own process can evaluate the types
    native: bool = True
    place: str = ""  # the path that it was imported at: other modules are in reach elsewhere
    environment: str = ""  # the key of the one that it was imported in
    imports: dict[str, str] = msgspec.field(default_factory=dict)


class Describer:
    """Makes scripts of files.

    Parameters:
        versions: where copies are kept.
        limits: the node's; they hold where a script does not say otherwise.
        node_env: the variables of which a script may ask for some.
        python: the interpreter that imports scripts, but for those that have an environment of their own.
        environments: where those are; None: scripts that need one are broken.
        secrets: those that scripts may ask for by name.
    """

    def __init__(
        self,
        versions: Versions,
        limits: Limits,
        node_env: Mapping[str, str],
        python: str,
        *,
        environments: EnvironmentFolder | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.versions = versions
        self._environments = environments
        self._secrets = secrets
        self.stop = threading.Event()  # set: imports under way are given up
        self._limits = limits
        self._node_env = node_env
        self._python = python

    def describe(self, found: Found, may_import: bool) -> Outcome:
        """Read a file and describe it; whatever is wrong with it becomes the reason why it is broken.

        Parameters:
            found: the file.
            may_import: whether to import it, in a process of its own, where only that tells its parameters.
        """
        version, read = "", time.time_ns()
        try:
            if found.refused is not None:
                raise Defect(found.refused)
            data = read_script(found.path)
            version = self._keep(data)
            return replace(self._describe(found.name, found.path, data, version, may_import), read=read)
        except Defect as defect:
            return Outcome(broken(found.name, version, defect), defect=defect, read=read)

    def describe_version(self, found: Found, version: str, may_import: bool) -> Outcome | None:
        """Describe an older version from its copy; None where that is gone. Its lock file is the one of now."""
        data = self.versions.load(version)
        if data is None:
            return None
        try:
            return self._describe(found.name, found.path, data, version, may_import)
        except Defect as defect:
            return Outcome(broken(found.name, version, defect), defect=defect)

    def _keep(self, data: bytes) -> str:
        try:
            return self.versions.keep(data)
        except OSError as error:
            text = f"no copy of it could be kept in {self.versions.folder}: {error.strerror}; make room"
            raise Defect(text, passing=True) from error

    def _describe(self, name: str, path: str, data: bytes, version: str, may_import: bool) -> Outcome:
        block = metadata.parse(decode(data))
        settings = load(block, self._limits)
        needs = self._needs(block, path)
        env = select_environment(settings, self._node_env, self._secrets)
        notes = self._recall(version, path, needs) or self._learn(path, data, version, env, needs, may_import)
        if settings.isolation == "warm" and notes.kind == "plain":
            line = block.line_of("isolation")
            raise Defect('isolation "warm" needs a function main; define one, or use "fork"', line=line)
        program = self._program(name, path, version, notes, settings, env, needs)
        is_pending = notes.kind == "function" and notes.parameters is None
        script = Script(
            name,
            _info(name, version, notes, settings),
            None if is_pending else program,
            settings,
            _parameters(notes),
            needs,
            None if needs is None else requirements.line_of(block),
        )
        imports = notes.imports if needs is None else {**notes.imports, requirements.lock_of(path): ""}
        return Outcome(script, pending=is_pending, imports=imports)

    def _needs(self, block: metadata.Metadata, path: str) -> Needs | None:
        needs = requirements.read(block, path)
        if needs is not None and self._environments is None:
            raise Defect("it needs an environment of its own, and none can be built here")
        return needs

    def _program(
        self,
        name: str,
        path: str,
        version: str,
        notes: Notes,
        settings: ScriptSettings,
        env: Mapping[str, str],
        needs: Needs | None,
    ) -> Program:
        preload, python = settings.preload, ""
        paths: tuple[str, ...] = ()
        if not notes.native:
            preload = (*preload, "pydantic")
        if needs is not None and self._environments is not None:
            version = f"{version}-{needs.key}"  # a warm worker of another environment is another program's
            python = str(self._environments.python(needs.key))
            paths = () if notes.native else (str(self._environments.typed(needs.key)),)
        return Program(
            name=name,
            version=version,
            path=Path(path),
            source=self.versions.source(version.partition("-")[0]),
            entry="main" if notes.kind == "function" else None,
            isolation=settings.isolation,
            preload=preload,
            python=python,
            paths=paths,
            env=env,
            native=notes.native,
            memory=int(settings.memory),
            processes=settings.processes,
            files=settings.files,
            file_size=int(settings.file_size),
            concurrency=settings.concurrency,
            result=int(self._limits.result),
        )

    def _recall(self, version: str, path: str, needs: Needs | None) -> Notes | None:
        data = self.versions.load_notes(version)
        if data is None:
            return None
        try:
            notes = msgspec.json.decode(data, type=Notes)
        except msgspec.DecodeError:
            return None
        if notes.made_by != _MADE_BY or notes.place not in ("", path):
            return None
        if notes.environment not in ("", "" if needs is None else needs.key):
            return None
        return notes if importing.are_unchanged(notes.imports) else None

    def _learn(
        self, path: str, data: bytes, version: str, env: Mapping[str, str], needs: Needs | None, may_import: bool
    ) -> Notes:
        try:
            tree = signature.parse(data)
            main = signature.find_main(tree)
            if main is None:
                notes = Notes(made_by=_MADE_BY, kind="plain", doc=signature.module_doc(tree))
            else:
                doc = main.doc or signature.module_doc(tree)
                try:
                    notes = _read_types(main, typed.write(main, names.read(tree)), doc)
                except Unresolved:
                    if not may_import:
                        return Notes(made_by=_MADE_BY, kind="function", doc=doc)
                    notes = self._import(path, version, env, needs, main, doc)
        except RecursionError as error:
            raise Defect("it is nested too deeply to be described") from error
        self.versions.keep_notes(version, msgspec.json.encode(notes))
        return notes

    def _import(
        self,
        path: str,
        version: str,
        env: Mapping[str, str],
        needs: Needs | None,
        main: signature.Signature,
        doc: str,
    ) -> Notes:
        python, typed_modules = self._python, None
        if needs is not None and self._environments is not None:
            python, typed_modules = str(self._environments.python(needs.key)), self._environments.typed(needs.key)
        imported = importing.describe(path, self.versions.source(version), python, env, self.stop, typed_modules)
        make_validator(imported.schema)
        return Notes(
            made_by=_MADE_BY,
            kind="function",
            doc=doc,
            parameters=_complete(imported.schema, main, doc),
            native=False,
            place=path,
            environment="" if needs is None else needs.key,
            imports=imported.imports,
        )


def _read_types(main: signature.Signature, written: typed.Written, doc: str) -> Notes:
    if main.decorated:
        raise Unresolved("the decorator may have changed the signature")
    types = typed.resolve_types(written)
    return Notes(
        made_by=_MADE_BY,
        kind="function",
        doc=doc,
        parameters=_complete(typed.json_schema(written), main, doc),
        written=written,
        native=types.native,
    )


def _parameters(notes: Notes) -> Parameters | None:
    if notes.parameters is None:
        return None
    if notes.written is None:
        return Schemed(notes.parameters)
    return Typed(notes.parameters, notes.native, partial(_make_validator, notes.written))


def _make_validator(written: typed.Written) -> typed.Validate:
    return typed.validator(typed.resolve_types(written))


def _complete(schema: dict[str, Any], main: signature.Signature, doc: str) -> dict[str, Any]:
    """Add what pydantic does not know: what the docstring says of each parameter, and literal defaults."""
    schema.pop("title", None)
    definitions = schema.get("$defs", {})
    explained = docs.parameter_docs(doc)
    defaults = {item.name: item.default for item in main.parameters}
    for name, part in schema.get("properties", {}).items():
        if part.get("title") == name.replace("_", " ").title().strip():
            del part["title"]  # says nothing that the name does not
        if name in explained:
            part.setdefault("description", explained[name])
        if _is_json(defaults.get(name, signature.UNKNOWN)) and not schemas.holds_secret(part, definitions):
            part.setdefault("default", defaults[name])
    return schema


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, (str, int))


def _info(name: str, version: str, notes: Notes, settings: ScriptSettings) -> ScriptInfo:
    return ScriptInfo(
        name=name,
        kind=notes.kind,
        version=version,
        description=docs.first_line(settings.description or notes.doc),
        doc=notes.doc,
        parameters=notes.parameters,
        isolation=settings.isolation,
        timeout=float(settings.timeout),
        concurrency=settings.concurrency,
        retries=settings.retries,
    )


def broken(name: str, version: str, defect: Defect) -> Script:
    """Make the script of a file that cannot be called."""
    info = ScriptInfo(name=name, kind="plain", version=version, broken=defect.reason(f"{name}.py"))
    return Script(name, info, None, ScriptSettings(), None)


def decode(data: bytes) -> str:
    """Give a file's text, decoded as Python decodes it.

    Raises:
        Defect: it cannot be.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise Defect(f"it is no Python: its text cannot be decoded: {error}") from error
