"""Secrets: known by the name of what holds them and by their shape, and never shown or kept.

They come by the environment. What stands in a URL or under a telling name all the same is hidden wherever text leaves us:
messages, logs, the settings kept with a batch, the parameters that Prefect stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"

_TELLING = r"secret|token|passw|passphrase|pwd|credential|signature|connection_?string|account_?key|access_?key|api_?key|private_?key|sas"
_NAME = re.compile(rf"{_TELLING}|^(key|sig|auth|pass)$|_auth$", re.IGNORECASE)
# Each name is of some length only, or a text made for it would be looked through for hours.
# user:password@ in any URL, also with an empty user.
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/?#'\"@:]*:[^\s/?#'\"]*@", re.IGNORECASE)
# What signed links carry: ?X-Amz-Signature=..., &sig=..., &token=...
_SIGNED = re.compile(rf"([?&][^=&\s'\"]{{0,60}}(?:{_TELLING}|\bsig|\bkey)[^=&\s'\"]{{0,60}}=)[^&\s'\"]+", re.IGNORECASE)
# AccountKey=...;  Password=...; as connection strings have them.
_PAIR = re.compile(rf"(\b\w{{0,60}}(?:{_TELLING})\w{{0,60}}\s{{0,9}}=\s{{0,9}})[^;&\s'\"]+(?=;)", re.IGNORECASE)


def mask(text: str) -> str:
    """The text with every secret that can be seen to be one hidden."""
    for shape, shown in ((_LOGIN, rf"\1{HIDDEN}@"), (_SIGNED, rf"\1{HIDDEN}"), (_PAIR, rf"\1{HIDDEN}")):
        text = shape.sub(shown, text)
    return text


def masked(tree: Any) -> Any:
    """Plain data with the values under telling names hidden, and every text masked."""
    if isinstance(tree, Mapping):
        return {
            name: HIDDEN if _NAME.search(str(name)) and value not in (None, "", {}, []) else masked(value)
            for name, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [masked(value) for value in tree]
    return mask(tree) if isinstance(tree, str) else tree


def masked_setting(line: str) -> str:
    """`key=value` as it may be shown and kept."""
    key, equals, value = line.partition("=")
    hidden = any(_NAME.search(part) for part in key.split(".")) or any(_NAME.search(name) for name in _names_in(value))
    return f"{key}{equals}{HIDDEN if hidden and value else mask(value)}"


def secrets_in(tree: Any, place: str = "") -> Iterator[str]:
    """The places in a tree that hold a secret, by name or by shape."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            here = f"{place}.{name}" if place else str(name)
            if _NAME.search(str(name)) and value not in (None, "", False):
                yield here
            else:
                yield from secrets_in(value, here)
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from secrets_in(value, f"{place}[{number}]")
    elif isinstance(tree, str) and mask(tree) != tree:
        yield place


def _names_in(value: str) -> list[str]:
    """The names inside of a value such as {key: ..., client_kwargs: {aws_secret_access_key: ...}}."""
    return re.findall(r"([A-Za-z_][\w-]*)['\"]?\s*:(?!//)", value) if value[:1] in "{[" else []
