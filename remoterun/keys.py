"""Idempotency keys: the same key by the same principal within a day gives the same job."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec

from remoterun.incoming import safe_name
from remoterun.messages import FileOnDisk, JobRequest, UploadedFile

_encoder = msgspec.json.Encoder(order="sorted")


def fingerprint(request: JobRequest) -> str:
    """Give what is equal for equal requests, whatever their key and trace. Files count by their hashes."""
    plain = msgspec.structs.replace(request, key=None, trace=None, files=None)
    text = _encoder.encode(plain)
    if request.files:
        text += _encoder.encode({path: [safe_name(file.name), _sha256(file)] for path, file in request.files.items()})
    return hashlib.sha256(text).hexdigest()


def _sha256(file: UploadedFile) -> str:
    return file.sha256 if isinstance(file, FileOnDisk) else hashlib.sha256(file.data).hexdigest()


class RecentKeys:
    """The keys of the last day, as far as memory goes: a new key then needs no look at the store.

    Parameters:
        is_complete: whether the store holds no key that is not here (it was empty at the start): a key that is not
            known is a new one then.
        most: keys remembered; beyond that the oldest are left to the store.
    """

    lifetime = timedelta(hours=24)

    def __init__(self, is_complete: bool = False, most: int = 200_000) -> None:
        self.is_complete = is_complete
        self._most = most
        self._jobs: OrderedDict[tuple[str, str], tuple[str, datetime]] = OrderedDict()
        self._gates: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    def add(self, principal: str, key: str, job_id: str, created: datetime) -> None:
        """Remember a key's job."""
        self._jobs[principal, key] = (job_id, created)
        self._jobs.move_to_end((principal, key))
        while self._jobs:
            oldest = next(iter(self._jobs))
            is_old = created - self._jobs[oldest][1] > self.lifetime
            if not is_old and len(self._jobs) <= self._most:
                return
            if not is_old:
                self.is_complete = False
            del self._jobs[oldest]

    def forget(self, principal: str, key: str) -> None:
        """Forget a key whose job never was."""
        self._jobs.pop((principal, key), None)

    def find(self, principal: str, key: str, moment: datetime) -> str | None:
        """Give the id of the job that a key stands for now, or None where it is not known here."""
        known = self._jobs.get((principal, key))
        if known is None or moment - known[1] > self.lifetime:
            return None
        return known[0]

    @asynccontextmanager
    async def held(self, principal: str, key: str) -> AsyncIterator[None]:
        """Let one call with a key in at a time, so that two at once make one job."""
        name = (principal, key)
        lock, users = self._gates.get(name, (asyncio.Lock(), 0))
        self._gates[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._gates.pop(name)
            if users > 1:
                self._gates[name] = (lock, users - 1)
