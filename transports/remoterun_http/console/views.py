"""Templates made into pages, with the headers that let a page load nothing that is not ours, and run nothing inline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from remoterun import __version__
from remoterun_http.answers import Answer, Header
from remoterun_http.console.assets import Assets
from remoterun_http.console.filters import FILTERS

HTML = b"text/html; charset=utf-8"

# Trusted Types: the one policy of ours escapes whatever a library hands to innerHTML (static/trusted.js); the other
# serves a frame that is sandboxed.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types default sandboxed-frame"
)
_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a form would not say its Origin
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Views:
    """The templates of the folder `templates`.

    Parameters:
        assets: what they link to.
    """

    def __init__(self, assets: Assets) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("remoterun_http.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(FILTERS)
        self._environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": True}
        self._environment.globals.update(static=f"/console/static/{assets.version}", version=__version__)

    def page(
        self,
        template: str,
        values: Mapping[str, Any],
        *,
        status: int = 200,
        headers: tuple[Header, ...] = (),
    ) -> Answer:
        """Make a page.

        Parameters:
            template: the file's name.
            values: what it shows; `data` is what its modules find in the page, as JSON.
        """
        text = self._environment.get_template(template).render(values)
        return Answer(status, text.encode("utf-8", "replace"), HTML, (*_HEADERS, *headers))
