"""From the address of a store to the backend behind it."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from prior_store.backends.files import FaultPoint, Files
from prior_store.errors import StoreAddressError


def open_files(
    url: str, storage_options: Mapping[str, object] | None = None, fault_point: FaultPoint | None = None
) -> Files:
    """Choose the backend that a URL names."""
    url = str(url)
    if not url.strip():
        raise StoreAddressError("the store URL is empty; give a folder or a URL such as s3://bucket/folder")
    if "::" in url:
        raise StoreAddressError(
            f"store URL {url!r} is a chain; a cache in between would show old listings, so name the backend itself"
        )
    if "://" in url and (urlsplit(url).password or "@" in urlsplit(url).netloc):
        scheme = url.split("://", 1)[0]
        raise StoreAddressError(
            f"the {scheme}:// store URL carries credentials; give them by the environment or by storage options, where "
            "they are never written down"
        )
    options = dict(storage_options or {})
    if "://" not in url or url.startswith(("file://", "local://")):
        from prior_store.backends.local import LocalFiles

        return LocalFiles(url, fault_point)
    if url.startswith("memory://"):
        from prior_store.backends.memory import MemoryFiles

        return MemoryFiles(url, options, fault_point)
    from prior_store.backends.objects import ObjectFiles

    return ObjectFiles(url, options, fault_point)
