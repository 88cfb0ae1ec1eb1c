"""Frames between node and worker: any split of the bytes gives the same bodies."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.workers.frames import HEADER, LARGEST, Frames, frame


@given(bodies=st.lists(st.binary(max_size=64), max_size=8), cuts=st.lists(st.integers(0, 700), max_size=12))
def test_any_split_gives_the_same_bodies(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, bodies))
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    frames = Frames()

    found = [body for start, end in itertools.pairwise(edges) for body in frames.feed(stream[start:end])]

    assert found == bodies
    assert frames.missing == 0


def test_it_says_how_much_the_frame_under_way_lacks() -> None:
    frames = Frames()
    assert frames.feed(frame(b"x" * 100)[:50]) == []
    assert frames.missing == HEADER + 100 - 50


def test_a_claim_beyond_any_frame_is_refused_before_anything_is_held() -> None:
    with pytest.raises(ValueError, match="bytes"):
        Frames().feed((LARGEST + 1).to_bytes(HEADER, "big") + b"x")
