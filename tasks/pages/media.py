"""Puts videos and pictures inside a report, so that one file can be sent around."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_store import Store

_POSTER_PIXELS = 320


def with_media(document: dict[str, Any], store: Store) -> dict[str, Any]:
    """The document with data URLs for links. Latents stay where they are: they are for machines, and large."""
    jobs = [("priors", prior) for prior in document["identities"]]
    jobs += [("variants", row) for prior in document["identities"] for row in prior["variants"]]
    # Far stores answer slowly one by one.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: _embed(store, *job), jobs))
    return document


def thumbnail(png: bytes, pixels: int) -> str:
    """A small picture as a data URL."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        small = opened.convert("RGB")
        small.thumbnail((pixels, pixels))
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=80)
    return _data_url("image/jpeg", buffer.getvalue())


def _embed(store: Store, kind: str, item: dict[str, Any]) -> None:
    item["latents"] = None
    commit = store.commit_of(kind, item["key"]) if item["video"] or item["preview"] else None
    files = commit.files if commit is not None else {}
    for name, file in (("video", "video.mp4"), ("preview", "preview.png")):
        if commit is None or not item[name] or file not in files:
            item[name] = None
            continue
        content = store.read_file(commit, file)
        item[name] = _data_url("video/mp4", content) if name == "video" else thumbnail(content, _POSTER_PIXELS)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
