"""Ended jobs are removed by age, number and size, a little at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from remoterun.catalog import Catalog
from remoterun.config import Retention
from remoterun.errors import ServiceError
from remoterun.messages import now
from remoterun.store.interface import Bounds, Store

logger = logging.getLogger(__name__)

_EVERY = 10.0  # seconds between looks while there is little to do
_VERSIONS_EVERY = 3600.0  # seconds
_STEP = 200  # jobs removed in one transaction
_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAUSE = 0.05  # seconds between two steps, for the calls that wait meanwhile


async def prune_versions(catalog: Catalog, kept: Retention, holding: asyncio.Lock) -> None:
    """Remove copies of scripts' versions that no kept job can be of, for ever.

    Parameters:
        holding: held by who takes files meanwhile.
    """
    while True:
        try:
            async with holding:
                await catalog.prune_versions(time.time() - kept.age)
        except OSError as error:
            logger.warning("old versions of scripts cannot be removed now: %s", error)
        await asyncio.sleep(_VERSIONS_EVERY)


async def prune(
    store: Store,
    folders: Sequence[Path],
    kept: Retention,
    holding: asyncio.Lock,
    count: Callable[[int], None] = lambda removed: None,
) -> None:
    """Remove what is older or more than is to be kept, for ever.

    Parameters:
        folders: those of files that jobs have; in each of them a job has a folder by its id.
        holding: held by who takes files meanwhile.
        count: called with how many were removed.
    """
    while True:
        async with holding:
            removed = await _prune_some(store, folders, kept)
        if removed:
            count(removed)
        await asyncio.sleep(_PAUSE if removed else _EVERY)


async def _prune_some(store: Store, folders: Sequence[Path], kept: Retention) -> int:
    bounds = Bounds(now() - timedelta(seconds=kept.age), kept.jobs, kept.bytes)
    try:
        removed = await store.prune(bounds, _STEP)
    except ServiceError as error:
        logger.warning("old jobs cannot be removed now: %s", error)
        return 0
    for folder in folders if removed else ():
        await asyncio.to_thread(_remove_folders, folder, removed)
    return len(removed)


async def sweep(store: Store, folders: Sequence[Path], before: str) -> None:
    """Remove the files of jobs that are not recorded: a node died before they were, or before their files were removed.

    Parameters:
        folders: as for `prune`.
        before: a job's id; those of this node's own jobs are greater.
    """
    for folder in folders:
        for job_id in await asyncio.to_thread(_listed, folder):
            try:
                if job_id < before and await store.get(job_id) is None:
                    await asyncio.to_thread(_remove_folders, folder, [job_id])
            except ServiceError as error:
                logger.warning("files that no job has cannot be looked for now: %s", error)
                return


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(filter(_JOB.fullmatch, os.listdir(folder)))  # noqa: PTH208 - as texts: there may be very many
    except OSError:
        return []


def _remove_folders(folder: Path, job_ids: list[str]) -> None:
    for job_id in job_ids:
        shutil.rmtree(folder / job_id, ignore_errors=True)
