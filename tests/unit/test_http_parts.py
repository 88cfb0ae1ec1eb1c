"""Which part of a file a request wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun_http.artifacts import Part, choose_part, part_headers

TAG = '"tag"'


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, Part(200, 0, 10)),
        ({"range": "bytes=0-3"}, Part(206, 0, 4)),
        ({"range": "BYTES = 2-"}, Part(206, 2, 10)),
        ({"range": "bytes=9-9"}, Part(206, 9, 10)),
        ({"range": "bytes=0-999"}, Part(206, 0, 10)),
        ({"range": "bytes=-3"}, Part(206, 7, 10)),
        ({"range": "bytes=-99"}, Part(206, 0, 10)),
        ({"range": "bytes=10-"}, Part(416)),
        ({"range": "bytes=-0"}, Part(416)),
        ({"range": "bytes=" + "9" * 18 + "-"}, Part(416)),
        ({"range": "bytes=" + "9" * 19 + "-"}, Part(200, 0, 10)),
        ({"range": "bytes=3-2"}, Part(200, 0, 10)),
        ({"range": "bytes=-"}, Part(200, 0, 10)),
        ({"range": "bytes=0-1,3-4"}, Part(200, 0, 10)),
        ({"range": "lines=0-1"}, Part(200, 0, 10)),
        ({"range": "bytes=x-1"}, Part(200, 0, 10)),
        ({"range": "bytes=0-3", "if-range": TAG}, Part(206, 0, 4)),
        ({"range": "bytes=0-3", "if-range": '"other"'}, Part(200, 0, 10)),
        ({"range": "bytes=0-3", "if-range": f"W/{TAG}"}, Part(200, 0, 10)),
        ({"range": "bytes=0-3", "if-range": "Thu, 26 Nov 2026 00:00:00 GMT"}, Part(200, 0, 10)),
        ({"if-none-match": TAG}, Part(304)),
        ({"if-none-match": f'"other", W/{TAG}'}, Part(304)),
        ({"if-none-match": "*", "range": "bytes=0-3"}, Part(304)),
        ({"if-none-match": '"other"'}, Part(200, 0, 10)),
    ],
)
def test_a_part_is_chosen(headers: dict[str, str], part: Part) -> None:
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    assert choose_part(encoded, TAG, 10) == part


@given(st.text("bytes=0123456789-, x"), st.integers(0, 12))
def test_no_range_leads_out_of_the_file(text: str, size: int) -> None:
    part = choose_part({b"range": text.encode()}, TAG, size)
    assert 0 <= part.start <= part.stop <= size
    headers = dict(part_headers(part, TAG, size))
    assert headers[b"content-length"] == b"%d" % (part.stop - part.start)
    assert (b"content-range" in headers) == (part.status == 206)
    assert part.status != 206 or part.start < part.stop
