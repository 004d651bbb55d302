"""Opens the pictures that a sheet names, within bounds: a sheet is untrusted and must not read what it likes.

A relative path lies below the sheet's folder. Anything else needs `sheet.allow_roots` or, for http(s),
`sheet.allow_http`. A picture is measured before it is decoded, so a decompression bomb stays a header.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from prior_engine.errors import RequestError
from prior_engine.requests.pictures import Picture
from tasks.settings import SheetSettings

MAX_BYTES = 64 * 2**20


class PictureError(ValueError):
    """A picture that cannot or may not be used; the message says why."""


def resolve_picture(named: str, sheet_root: str, settings: SheetSettings) -> str:
    """The location that `named` stands for, if the sheet may reach it."""
    if "\x00" in named:
        raise PictureError(f"{named!r} holds a NUL byte; give a plain path")
    protocol, separator, _ = named.partition("://")
    if separator and protocol in {"http", "https"}:
        if not settings.allow_http:
            raise PictureError(
                f"{named!r} is on the web, which a sheet may not reach; allow it with sheet.allow_http=true"
            )
        return named
    if separator:
        if not any(_below_url(named, root) for root in settings.allow_roots):
            raise PictureError(
                f"{named!r} is outside what the sheet may reach; add its folder: sheet.allow_roots=[{protocol}://...]"
            )
        return named
    if "://" in sheet_root:
        if named.startswith("/") or ".." in Path(named).parts:
            raise PictureError(f"{named!r} leaves the sheet's folder {sheet_root!r}; use a path below it")
        return f"{sheet_root.rstrip('/')}/{named}"
    root = Path(sheet_root).resolve()
    path = (root / named).resolve()
    allowed = [root, *(Path(extra).resolve() for extra in settings.allow_roots if "://" not in extra)]
    if not any(path == folder or folder in path.parents for folder in allowed):
        raise PictureError(
            f"{named!r} leads to {str(path)!r}, outside {[str(folder) for folder in allowed]}; move it there or add its folder to sheet.allow_roots"
        )
    return str(path)


def _below_url(location: str, root: str) -> bool:
    return "://" in root and ".." not in location.split("/") and (location + "/").startswith(root.rstrip("/") + "/")


def open_picture(location: str, max_pixels: int) -> Picture:
    """Read and check one picture: present, a known format, not huge, whole."""
    import fsspec
    from PIL import Image, UnidentifiedImageError

    try:
        with fsspec.open(location, "rb") as file:
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
                raise PictureError(
                    f"{location!r} has {width}x{height} pixels, more than sheet.max_image_pixels={max_pixels}"
                )
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
