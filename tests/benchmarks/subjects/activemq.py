"""Calls over ActiveMQ, beside a bare consumer with the same guarantees.

Those are: persistent messages, receipts for calls and answers, a call acknowledged when nothing of it can be lost.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from measure import Figure, MeasureError, Row
from place import Place, tool
from stomp_load import stomp_milliseconds, stomp_rate

_CALLS = 1000
_OURS, _BARE = "/queue/remoterun.jobs", "/queue/bare.jobs"
_CONFIGURATION = """\
[activemq]
url = "{url}"
principal = "publisher"

[principals.publisher]
scopes = ["run:hello", "read"]
"""


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    tool("activemq")
    url = place.broker("activemq")
    broker = urlsplit(url)
    if broker.hostname is None:
        raise MeasureError(f"ActiveMQ is at {url}")
    place.node(configuration=_CONFIGURATION.format(url=url))
    place.floor("stomp_hello.py", broker.hostname, str(broker.port), _BARE)
    return [
        Row(
            f"ActiveMQ, warm: {_CALLS:,} calls, all confirmed and answered",
            Figure("hello", "/s", lambda: stomp_rate(url, _OURS, _CALLS)),
            [Figure("bare stomp.py consumer", "/s", lambda: stomp_rate(url, _BARE, _CALLS))],
        ),
        Row(
            "ActiveMQ, warm: one at a time",
            Figure("hello", "ms", lambda: stomp_milliseconds(url, _OURS)),
            [Figure("bare stomp.py consumer", "ms", lambda: stomp_milliseconds(url, _BARE))],
        ),
    ]
