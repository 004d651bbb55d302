"""Opens the pictures that a sheet names, within bounds: a sheet is untrusted and must not read what it likes.

A relative path lies below the sheet's folder. Anything else needs `sheet.allow_roots` or, for http(s),
`sheet.allow_http`. A picture is measured before it is decoded, so a decompression bomb stays a header.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

from prior_engine.errors import RequestError
from prior_engine.requests.pictures import Picture
from tasks.settings import SheetSettings
from tasks.sheets.local_file import local_path, open_checked

MAX_BYTES = 64 * 2**20


class PictureError(ValueError):
    """A picture that cannot or may not be used; the message says why."""


def resolve_picture(named: str, sheet_root: str, settings: SheetSettings) -> str:
    """The location that `named` stands for, if the sheet may reach it; on this machine a path without links."""
    if "\x00" in named:
        raise PictureError(f"{named!r} holds a NUL byte; give a plain path")
    if "::" in named:
        raise PictureError(f"{named!r} joins file systems with '::', which a sheet may not do; give the file itself")
    protocol = named.partition("://")[0]
    path = local_path(named)
    if path is None and protocol in {"http", "https"}:
        if not settings.allow_http:
            raise PictureError(
                f"{named!r} is on the web, which a sheet may not reach; allow it with sheet.allow_http=true"
            )
        return named
    if path is None:
        if not any(_below_url(named, root) for root in settings.allow_roots):
            raise PictureError(
                f"{named!r} is outside what the sheet may reach; add its folder: sheet.allow_roots=[{protocol}://...]"
            )
        return named
    folder = local_path(sheet_root)
    if folder is None and path == named:
        if named.startswith("/") or ".." in Path(named).parts:
            raise PictureError(f"{named!r} leaves the sheet's folder {sheet_root!r}; use a path below it")
        return f"{sheet_root.rstrip('/')}/{named}"
    roots = [folder, *map(local_path, settings.allow_roots)]
    allowed = [os.path.realpath(root) for root in roots if root is not None]
    # Links are followed here, and not any more when the file is opened.
    real = os.path.realpath(Path(folder or "/", path))
    if not any(Path(real).is_relative_to(root) for root in allowed):
        raise PictureError(
            f"{named!r} leads to {real!r}, outside {allowed}; move it there or add its folder to sheet.allow_roots"
        )
    return real


def _below_url(location: str, root: str) -> bool:
    return "://" in root and ".." not in location.split("/") and (location + "/").startswith(root.rstrip("/") + "/")


def open_picture(location: str, max_pixels: int, setting: str = "sheet.max_image_pixels") -> Picture:
    """Read and check one picture: present, a known format, not huge, whole."""
    import fsspec
    from PIL import Image, UnidentifiedImageError

    try:
        with fsspec.open(location, "rb") if "://" in location else open_checked(location) as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise PictureError(f"there is no picture at {location!r}; paths are relative to the sheet's folder") from None
    except (OSError, ValueError, ImportError) as error:
        raise PictureError(f"{location!r} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise PictureError(f"{location!r} is larger than {MAX_BYTES >> 20} MiB; give a smaller picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Only the header is read here.
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
            if width * height > max_pixels:
                raise PictureError(f"{location!r} has {width}x{height} pixels, more than {setting}={max_pixels}")
            return Picture.open(data)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(
            f"{location!r} would decode to far more than {max_pixels} pixels; give a smaller picture"
        ) from None
    except UnidentifiedImageError:
        raise PictureError(f"{location!r} is not a picture that can be decoded; give a PNG, JPEG or WebP") from None
    except RequestError as error:
        raise PictureError(f"{location!r}: {error}; give it whole, as PNG, JPEG or WebP") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(
            f"{location!r} is not a picture that can be decoded ({type(error).__name__}: {error})"
        ) from None
