"""What a store holds: objects under keys, embeddings, and the manifest that lists them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_store import layout
from prior_store.backends.capabilities import Capabilities
from prior_store.backends.files import Files
from prior_store.backends.root import Root
from prior_store.errors import AmbiguousKeyError, DamagedError, KeyNotFoundError, StoreReadOnlyError
from prior_store.objects import damage, tensors
from prior_store.objects.claims import Claim
from prior_store.objects.commit import Commit, FileInfo, read_commit
from prior_store.objects.lease import TTL_S

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    import torch

    from prior_store.manifest.index import Manifest

CONTENT_DIGEST = "headstart.content_sha256"
"""Metadata entry of an embedding: digest of its tensors, since it has no commit record to hold one."""


class Holdings:
    """Objects, embeddings and rows on one backend: made, read and listed. `Store` adds the care of them."""

    def __init__(self, files: Files, root: Root, *, verify_hashes: bool = True, check_digests: bool = False) -> None:
        self.files = files
        self.verify_hashes = verify_hashes
        self.check_digests = check_digests
        """Whether an object is counted on only if its digests are right; otherwise existence and sizes are enough."""
        self._root = root
        self._manifest: Manifest | None = None

    @property
    def url(self) -> str:
        """Where the store lies; never with credentials."""
        return self.files.url

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do; found out when first asked for, and that writes."""
        return self._root.capabilities

    def require_writable(self) -> None:
        """Refuse to write where that is known to be impossible."""
        if not self.capabilities.writable:
            raise StoreReadOnlyError(
                f"{self.url} can be read but not written; open it as a user, or with credentials, that may write"
            )

    # Objects

    def commit_of(self, kind: str, key: str) -> Commit | None:
        """Read the commit record of a key, None if it is not committed: the truth, fresh from the store."""
        return read_commit(self.files, kind, key)

    def damaged(self, objects: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """Name those of many objects (kind, key) that cannot be counted on, and why: a listing and a small read each."""
        return damage.damaged(self.files, objects, digests=self.check_digests)

    def claim(
        self,
        kind: str,
        key: str,
        *,
        ttl_s: float = TTL_S,
        wait_s: float | None = None,
        on_wait: Callable[[str, float], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Claim:
        """Claim a key for making it; entering the claim waits while another holder is alive.

        What is committed and cannot be counted on is set aside, and the key is ours to make again.
        """
        self.require_writable()
        return Claim(
            self.files,
            kind,
            key,
            add_rows=self.add_rows,
            digests=self.check_digests,
            ttl_s=ttl_s,
            wait_s=wait_s,
            on_wait=on_wait,
            cancel=cancel,
        )

    def read_tensors(
        self, commit: Commit | tuple[str, str], name: str
    ) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
        """Read one snapshot, and only that file: mapped from a local disk, in parallel ranges from afar."""
        commit = self._committed(commit)
        path, info = self._file_of(commit, name)
        local = self.files.local_path(path)
        if local is not None:
            self._compare(path, lambda: local.stat().st_size, lambda: tensors.file_sha256(local), info)
            return tensors.decode_file(local, path)
        content = self._read(path)
        self._compare(path, lambda: len(content), lambda: tensors.bytes_sha256(content), info)
        return tensors.decode(content, path)

    def read_file(self, commit: Commit | tuple[str, str], name: str) -> bytes:
        """Read one kept file as bytes."""
        commit = self._committed(commit)
        path, info = self._file_of(commit, name)
        content = self._read(path)
        self._compare(path, lambda: len(content), lambda: tensors.bytes_sha256(content), info)
        return content

    def uri_of(self, commit: Commit | tuple[str, str], name: str) -> str:
        """Give the full address of one kept file."""
        return self.files.uri(self._file_of(self._committed(commit), name)[0])

    def uri(self, relative: str) -> str:
        """Give the full address for a URI column of the manifest, which is relative to the root."""
        return self.files.uri(relative)

    def local_path_of(self, commit: Commit | tuple[str, str], name: str) -> Path | None:
        """Give the place of one kept file on this machine, None if the store is elsewhere."""
        return self.files.local_path(self._file_of(self._committed(commit), name)[0])

    def find(self, prefix: str, kind: str | None = None) -> tuple[str, str]:
        """Resolve the beginning of a key to (kind, key)."""
        if len(prefix) < 2 or not all(letter in "0123456789abcdef" for letter in prefix):
            raise KeyNotFoundError(f"{prefix!r} cannot begin a key; give at least 2 hex digits")
        found: list[tuple[str, str]] = []
        for room in layout.KINDS if kind is None else (layout.checked_kind(kind),):
            keys = [key for key in self.files.names(f"{room}/{prefix[:2]}") if key.startswith(prefix)]
            found += [(room, key) for key in keys if self.files.size(layout.commit_path(room, key)) is not None]
        if not found:
            raise KeyNotFoundError(
                f"no object in {self.url} has a key that begins with {prefix!r}; see `headstart store ls`"
            )
        if len(found) > 1:
            shown = ", ".join(f"{room}/{key[: len(prefix) + 6]}" for room, key in found[:5])
            raise AmbiguousKeyError(f"{prefix!r} begins {len(found)} keys ({shown}); give more digits")
        return found[0]

    # Embeddings

    def put_embedding(self, key: str, values: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
        """Keep a text embedding under the key of its recipe; putting the same again changes nothing."""
        self.require_writable()
        notes = {**(metadata or {}), CONTENT_DIGEST: tensors.content_digest(values)}
        self.files.put(layout.embedding_path(key), tensors.encode(values, notes))

    def get_embedding(self, key: str) -> tuple[dict[str, "torch.Tensor"], dict[str, str]] | None:
        """Read a text embedding, None if it was never kept."""
        path = layout.embedding_path(key)
        try:
            content = self.files.read(path)
        except FileNotFoundError:
            return None
        values, metadata = tensors.decode(content, path)
        digest = metadata.pop(CONTENT_DIGEST, None)
        if self.verify_hashes and digest != tensors.content_digest(values):
            raise DamagedError(f"{path} is not what was kept; remove it, and the text is encoded again")
        return values, metadata

    # Manifest

    @property
    def manifest_files(self) -> "Manifest":
        """Give the reader and writer of rows; pyarrow is loaded here and not before."""
        if self._manifest is None:
            from prior_store.manifest.index import Manifest

            self._manifest = Manifest(self.files)
        return self._manifest

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """List rows in one fragment: failed rows, or the rows of many commits at once (`commit.row`)."""
        self.require_writable()
        self.manifest_files.add(rows)

    def manifest(
        self,
        filter: "ds.Expression | None" = None,  # noqa: A002 - pyarrow's own word for it
        columns: Sequence[str] | None = None,
        *,
        past_damage: bool = False,
    ) -> "pa.Table":
        """Give the manifest: one row per key, the latest. `past_damage` leaves out the rows of files that cannot be read."""
        return self.manifest_files.read(filter, columns, past_damage=past_damage)

    def known(self, kind: str) -> set[str]:
        """Give the keys of a kind that are done, by the manifest: quick, and behind the truth only by running commits."""
        return self.manifest_files.known(kind)

    def rows_by_key(self, keys: Iterable[str], columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Look many keys up at once; those without a row are left out, and those whose row cannot be read."""
        return self.manifest_files.rows_by_key(keys, columns)

    @property
    def passed_over(self) -> Sequence[str]:
        """Say which manifest files the last look had to leave out, and why."""
        return tuple(self.manifest_files.passed_over.values())

    def _committed(self, commit: Commit | tuple[str, str]) -> Commit:
        if isinstance(commit, Commit):
            return commit
        found = self.commit_of(*commit)
        if found is None:
            kind, key = commit
            raise KeyNotFoundError(f"{kind}/{key[:12]} is not committed in {self.url}; see `headstart store ls`")
        return found

    def _file_of(self, commit: Commit, name: str) -> tuple[str, FileInfo]:
        if name not in commit.files:
            raise KeyNotFoundError(
                f"{commit.kind}/{commit.key[:12]} has no file {name!r}; it has {sorted(commit.files)}"
            )
        return commit.path(name), commit.files[name]

    def _read(self, path: str) -> bytes:
        try:
            return self.files.read(path)
        except FileNotFoundError:
            raise DamagedError(f"{path} was committed and is gone; run `headstart store repair`") from None

    def _compare(self, path: str, size: Callable[[], int], digest: Callable[[], str], info: FileInfo) -> None:
        try:
            if size() != info.bytes:
                raise DamagedError(
                    f"{path} has {size()} bytes where {info.bytes} were committed; run `headstart store repair`"
                )
            if self.verify_hashes and digest() != info.sha256:
                raise DamagedError(f"{path} does not have the committed sha256; run `headstart store repair`")
        except FileNotFoundError:
            raise DamagedError(f"{path} was committed and is gone; run `headstart store repair`") from None
