"""Self-contained HTML pages: a Jinja2 template with the DataTables bundle of `itables` and pictures inside."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from itables.options import dt_bundle
from jinja2 import Environment, StrictUndefined


def render_page(template: Path, *, autoescape: bool = True, **content: Any) -> str:
    """Fill in a template, which also gets `style` and `library`: the bundle that sorts tables, offline.

    A name that the template uses and `content` lacks is an error. Only a test turns `autoescape` off, to see what it
    blocks.
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
    """A `data:` address that holds the bytes; `kind` is their MIME type."""
    return f"data:{kind};base64,{b64encode(data).decode()}"
