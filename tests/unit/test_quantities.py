from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.quantities import Duration, Size, format_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2d", 172800.0),
        ("1w", 604800.0),
        ("90", 90.0),
        (" 5m ", 300.0),
        (7, 7.0),
        (0.5, 0.5),
        ("0", 0.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str | float, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "30 parsecs", "1h30", "-1s", "-1", "inf", "nan", "5m junk", "1e400"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512MB", 512 * 10**6),
        ("16MiB", 16 * 2**20),
        ("16 mib", 16 * 2**20),
        ("1.5KB", 1500),
        ("10GB", 10**10),
        ("1TiB", 2**40),
        ("42", 42),
        ("42B", 42),
        (42, 42),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str | int, count: int) -> None:
    assert Size.parse(text) == count


@pytest.mark.parametrize("text", ["", "MB", "12 potatoes", "-1", -1, "1e3"])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1 MiB"), (5 * 2**40, "5120 GiB")],
)
def test_a_size_is_written_as_people_read_it(count: int, text: str) -> None:
    assert format_size(count) == text


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for kind in (Duration, Size):
        try:
            value = kind.parse(text)
        except ValueError:
            continue
        assert value >= 0
