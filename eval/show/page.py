"""Self-contained HTML pages: a Jinja2 template, the DataTables bundle of `itables`, pictures as data."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from itables.options import dt_bundle
from jinja2 import Environment, StrictUndefined


def render_page(template: Path, *, autoescape: bool = True, **content: Any) -> str:
    """A template filled in; `style` and `library` are the bundle that sorts tables, offline.

    Args:
        template: a file beside the code that fills it.
        autoescape: text stays text. Only a test turns it off, to see what it keeps out.
        **content: what the template asks for; a name that is missing is an error.
    """
    bundle = Path(dt_bundle)
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(autoescape=autoescape, **options)
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        style=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        library=data_uri("text/javascript", bundle.read_bytes()),
        zip=zip,
        **content,
    )


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{b64encode(data).decode()}"
