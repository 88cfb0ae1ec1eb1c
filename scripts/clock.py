"""Tell date and time in any time zone.

Args:
    zone: an IANA name, like Europe/Berlin or Asia/Tokyo.
    format: iso (2026-11-25T18:30:00+01:00), mail (RFC 5322), long (for people) or unix (seconds since 1970).
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "10s"
# description = "Tell date and time in any time zone"
# ///

import difflib
from datetime import datetime
from email.utils import format_datetime
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones


def main(zone: str = "UTC", format: Literal["iso", "mail", "long", "unix"] = "iso") -> dict[str, str]:
    place = find_zone(zone)
    if place is None:
        raise ValueError(f"there is no time zone {zone!r}{suggestion(zone)}")
    now = datetime.now(place)
    return {"zone": zone, "time": write(now, format), "offset": now.strftime("%z"), "abbreviation": now.tzname() or ""}


def find_zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # a folder, a path that leads out, no such file
        return None


def suggestion(name: str) -> str:
    zones = available_timezones()
    if not zones:
        return "; this machine has no time zone database: install the package tzdata"
    wanted = name.strip().replace(" ", "_").casefold()
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(zones)}
    full = {zone.casefold(): zone for zone in zones}
    close = [full[match] for match in difflib.get_close_matches(wanted, full, n=2)]
    close += [cities[match] for match in difflib.get_close_matches(wanted, cities, n=2)]
    if not close:
        return "; write it like Europe/Berlin"
    return f"; did you mean {' or '.join(dict.fromkeys(close))}?"


def write(moment: datetime, format: str) -> str:
    match format:
        case "mail":
            return format_datetime(moment)
        case "long":
            return f"{moment:%A, %d %B %Y, %H:%M:%S %Z}"
        case "unix":
            return str(int(moment.timestamp()))
        case _:
            return moment.isoformat(timespec="seconds")
