# SPDX-License-Identifier: Apache-2.0
"""The API document as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 18%,transparent)}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.5rem}code,pre{font:14px/1.4 ui-monospace,monospace}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.5rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse;width:100%}td,th{border-top:1px solid var(--line);padding:.3rem .6rem .3rem 0;
text-align:left;vertical-align:top}pre{overflow:auto;border-left:3px solid var(--line);padding-left:1rem}
"""


def render(document: dict[str, Any]) -> bytes:
    """The page of an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])}</h1><p>Version {escape(info['version'])}, ",
        f"<a href='/openapi.json'>OpenAPI document</a></p><p>{_text(info['description'])}</p>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'].capitalize())}</h2>")
        for path, methods in document["paths"].items():
            parts.extend(
                _operation(path, method, one) for method, one in methods.items() if tag["name"] in one["tags"]
            )
    parts.append("<h2>Objects</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<details id='{escape(name)}'><summary><code>{escape(name)}</code> ")
        parts.append(f"{_text(schema.get('description', ''))}</summary>{_json(schema)}</details>")
    parts.append("</body></html>")
    return "".join(parts).encode()


def _operation(path: str, method: str, one: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td><td>{_text(each['description'])}</td></tr>"
        for each in one.get("parameters", ())
    )
    answers = "".join(
        f"<tr><td>{status}</td><td>{_text(each['description'])} {_link(each)}</td></tr>"
        for status, each in one["responses"].items()
    )
    body = f"<p>Body: {_link(one['requestBody'])}</p>" if "requestBody" in one else ""
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(one['summary'])}</summary>"
        f"<p>{_text(one.get('description', ''))}</p>{body}"
        + (f"<table><tr><th>Parameter</th><th>In</th><th></th></tr>{rows}</table>" if rows else "")
        + f"<table><tr><th>Answer</th><th></th></tr>{answers}</table></details>"
    )


def _link(part: dict[str, Any]) -> str:
    for content in part.get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            return f"<a href='#{escape(name)}'><code>{escape(name)}</code></a>"
    return ""


def _text(text: str) -> str:
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\n+(- )?", "<br>", shown.removeprefix("- "))


def _json(schema: dict[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=2))}</pre>"
