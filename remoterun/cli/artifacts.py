"""`remoterun artifacts`: the files that a job left."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path, PurePosixPath

from remoterun.cli.session import node_session, wants_json
from remoterun.cli.tables import print_table
from remoterun.errors import ConfigError, Internal
from remoterun.messages import encode
from remoterun.quantities import format_size
from remoterun.service import Artifact


def artifacts_options(parser: ArgumentParser) -> None:
    """Add the options of `artifacts`."""
    parser.add_argument("id", help="the job's id")
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("-o", "--output", metavar="DIR", help="copy them into this folder")


def artifacts(options: Namespace) -> int:
    """List the files that a job left, or copy them."""
    with node_session(options) as session:
        job = session.get_job(options.id)
        wanted = [info for info in job.artifacts if not options.names or info.name in options.names]
        missing = sorted(set(options.names) - {info.name for info in wanted})
        if options.output is not None:
            for name in missing or [info.name for info in wanted]:  # a missing one gets the node's own refusal
                save(session.open_artifact(job.id, name), Path(options.output))
    if wants_json(options):
        print(encode(wanted).decode())
    elif options.output is None:
        print_table(("NAME", "SIZE", "TYPE"), [(info.name, format_size(info.size), info.media_type) for info in wanted])
    return 0


def save(artifact: Artifact, folder: Path) -> Path:
    """Write an artifact into a folder under its own name, whole or not at all, and give its path.

    Raises:
        Internal: its name would lead out of the folder.
        ConfigError: the folder cannot be written.
    """
    target = _inside(folder, artifact.info.name)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for chunk in artifact.chunks:
                file.write(chunk)
        part.replace(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def _inside(folder: Path, name: str) -> Path:
    """Give the path of a name in a folder; the node is not trusted to have checked it."""
    parts = PurePosixPath(name).parts
    target = folder.joinpath(*parts)
    safe = parts and not PurePosixPath(name).is_absolute() and ".." not in parts and "\0" not in name
    if not safe or not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Internal(f"the artifact's name {name!r} leads out of the folder; nothing was written")
    return target
