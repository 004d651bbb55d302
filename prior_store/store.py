"""The face of the store: priors, variants and embeddings under keys, and a manifest that lists them.

    store = Store.open("s3://bucket/headstart")
    with store.claim("priors", key) as claim:
        if claim.commit is None:
            claim.put_tensors("step_0000.safetensors", {"latents": latents})
            claim.publish(recipe=recipe, row={"prompt": "a cat"})

Two promises: what was published is whole, and a manifest row never points at nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_store import layout
from prior_store.backends.capabilities import Capabilities, open_root, require_writable
from prior_store.backends.files import FaultPoint, Files, open_files
from prior_store.errors import AmbiguousKeyError, DamagedError, KeyNotFoundError, NoSpaceError
from prior_store.objects import tensors
from prior_store.objects.claims import Claim
from prior_store.objects.commit import Commit
from prior_store.objects.lease import TTL_S

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    import torch

    from prior_store.care.gc import Collected
    from prior_store.care.importing import Imported
    from prior_store.care.repair import Repair
    from prior_store.care.verify import Progress, Report
    from prior_store.manifest.compact import Compaction
    from prior_store.manifest.table import Manifest

CONTENT_DIGEST = "headstart.content_sha256"
"""Metadata entry of an embedding: digest of its tensors, since it has no commit record to hold one."""


class Store:
    """Keeps what was made under the key of its recipe. Cheap to open; safe to use from many threads and processes."""

    def __init__(self, files: Files, capabilities: Capabilities, *, verify_hashes: bool = True) -> None:
        self.files = files
        self.capabilities = capabilities
        self.verify_hashes = verify_hashes
        self._manifest: Manifest | None = None

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        storage_options: Mapping[str, object] | None = None,
        create: bool = True,
        verify_hashes: bool = True,
        fault_point: FaultPoint | None = None,
    ) -> "Store":
        """Open the store at a folder or URL, making one in an empty place; say clearly why that is impossible."""
        files = open_files(str(url), storage_options, fault_point)
        return cls(files, open_root(files, create=create), verify_hashes=verify_hashes)

    @property
    def url(self) -> str:
        """Where the store lies; never with credentials."""
        return self.files.url

    # Objects

    def commit_of(self, kind: str, key: str) -> Commit | None:
        """Read the commit record of a key, None if it is not committed: the truth, fresh from the store."""
        try:
            content = self.files.read(layout.commit_path(kind, key))
        except FileNotFoundError:
            return None
        return Commit.from_json(content, kind, key)

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
        """Claim a key for making it; entering the claim waits while another holder is alive."""
        require_writable(self.files, self.capabilities)
        return Claim(self, kind, key, ttl_s=ttl_s, wait_s=wait_s, on_wait=on_wait, cancel=cancel)

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
            raise KeyNotFoundError(f"no object in {self.url} has a key that begins with {prefix!r}; see `store ls`")
        if len(found) > 1:
            shown = ", ".join(f"{room}/{key[: len(prefix) + 6]}" for room, key in found[:5])
            raise AmbiguousKeyError(f"{prefix!r} begins {len(found)} keys ({shown}); give more digits")
        return found[0]

    # Embeddings

    def put_embedding(self, key: str, values: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
        """Keep a text embedding under the key of its recipe; putting the same again changes nothing."""
        require_writable(self.files, self.capabilities)
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
            raise DamagedError(f"{path} is not what was kept; remove it, it will be encoded again")
        return values, metadata

    # Manifest

    @property
    def manifest_files(self) -> "Manifest":
        """Give the reader and writer of rows; pyarrow is loaded here and not before."""
        if self._manifest is None:
            from prior_store.manifest.table import Manifest

            self._manifest = Manifest(self.files)
        return self._manifest

    def add_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """List rows in one fragment: failed rows, or the rows of many commits at once (`commit.row`)."""
        require_writable(self.files, self.capabilities)
        self.manifest_files.add(rows)

    def manifest(self, filter: "ds.Expression | None" = None, columns: Sequence[str] | None = None) -> "pa.Table":  # noqa: A002 - pyarrow's own word for it
        """Give the manifest: one row per key, the latest."""
        return self.manifest_files.read(filter, columns)

    def known(self, kind: str) -> set[str]:
        """Give the keys of a kind that are done, by the manifest: quick, and behind the truth only by running commits."""
        import pyarrow.compute as pc

        done = (pc.field("kind") == layout.checked_kind(kind)) & (pc.field("status") == "done")
        return set(self.manifest(done, ["key"])["key"].to_pylist())

    def rows_by_key(self, keys: Iterable[str], columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Look many keys up at once; those without a row are left out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from prior_store.manifest.table import rows_of

        wanted = pa.array(sorted(set(keys)), pa.string())
        if columns is not None:
            columns = list(dict.fromkeys(["key", *columns]))
        return {row["key"]: row for row in rows_of(self.manifest(pc.field("key").isin(wanted), columns))}

    # Batches

    def put_batch_file(self, batch: str, name: str, content: bytes) -> None:
        """Keep a file of a batch (plan, report, resolved settings); a later one replaces it."""
        require_writable(self.files, self.capabilities)
        self.files.put(layout.batch_path(batch, name), content)

    def create_batch_file(self, batch: str, name: str, content: bytes) -> bool:
        """Keep a file of a batch if there is none of this name; tell whether we are the one who did."""
        require_writable(self.files, self.capabilities)
        return self.files.create(layout.batch_path(batch, name), content)

    def batch_file_or_none(self, batch: str, name: str) -> bytes | None:
        """Read a file of a batch, None if there is none."""
        return self.files.content_or_none(layout.batch_path(batch, name))

    def read_batch_file(self, batch: str, name: str) -> bytes:
        """Read a file of a batch."""
        try:
            return self.files.read(layout.batch_path(batch, name))
        except FileNotFoundError:
            raise KeyNotFoundError(
                f"batch {batch!r} has no file {name!r}; {self.url} has the batches {self.list_batches()[-10:]}"
            ) from None

    def remove_batch_file(self, batch: str, name: str) -> None:
        """Take a file of a batch away; one that is gone already is fine."""
        require_writable(self.files, self.capabilities)
        self.files.remove(layout.batch_path(batch, name))

    def list_batches(self) -> list[str]:
        """Name all batches, in order of their names."""
        return self.files.names(layout.BATCHES)

    # Care

    def compact(self, *, grace_s: float | None = None) -> "Compaction":
        """Join the manifest's small files into one; what was joined goes after a grace time."""
        from prior_store.manifest import compact

        require_writable(self.files, self.capabilities)
        return compact.compact(self.files, grace_s=compact.GRACE_S if grace_s is None else grace_s)

    def verify(self, *, quick: bool = False, progress: "Progress | None" = None) -> "Report":
        """Check that every row has its whole object and every object its row; `quick` leaves digests out."""
        from prior_store.care.verify import verify

        return verify(self, quick=quick, progress=progress)

    def repair(self, *, quick: bool = False, progress: "Progress | None" = None) -> "Repair":
        """Rebuild missing rows, put what is torn into quarantine."""
        from prior_store.care.repair import repair

        return repair(self, quick=quick, progress=progress)

    def import_from(self, source: "Store") -> "Imported":
        """Take what another store holds and this one lacks: keys kept, bytes checked, each object whole or absent."""
        from prior_store.care.importing import import_all

        require_writable(self.files, self.capabilities)
        return import_all(self, source)

    def gc(self, *, dry_run: bool = True, **options: Any) -> "Collected":
        """Free room; by default only tell what would go. See `prior_store.care.gc.gc` for the options."""
        from prior_store.care.gc import gc

        return gc(self, dry_run=dry_run, **options)

    def du(self) -> dict[str, Any]:
        """Add up what lies where."""
        from prior_store.care.gc import du

        return du(self)

    def require_space(self, needed: int) -> None:
        """Refuse early what will not fit: asked before a prior is recorded, not after an hour of work."""
        free = self.files.free_bytes()
        if free is not None and free < needed:
            raise NoSpaceError(
                f"{needed / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free under {self.url}; keep fewer "
                "steps, or free some room with `store gc`"
            )

    def _committed(self, commit: Commit | tuple[str, str]) -> Commit:
        if isinstance(commit, Commit):
            return commit
        found = self.commit_of(*commit)
        if found is None:
            kind, key = commit
            raise KeyNotFoundError(f"{kind}/{key[:12]} is not committed in {self.url}; see `store ls`")
        return found

    def _file_of(self, commit: Commit, name: str) -> tuple[str, Any]:
        if name not in commit.files:
            raise KeyNotFoundError(
                f"{commit.kind}/{commit.key[:12]} has no file {name!r}; it has {sorted(commit.files)}"
            )
        return commit.path(name), commit.files[name]

    def _read(self, path: str) -> bytes:
        try:
            return self.files.read(path)
        except FileNotFoundError:
            raise DamagedError(f"{path} was committed and is gone; run `store verify`") from None

    def _compare(self, path: str, size: Callable[[], int], digest: Callable[[], str], info: Any) -> None:
        try:
            if size() != info.bytes:
                raise DamagedError(f"{path} has {size()} bytes where {info.bytes} were committed; run `store repair`")
            if self.verify_hashes and digest() != info.sha256:
                raise DamagedError(f"{path} does not have the committed sha256; run `store repair`")
        except FileNotFoundError:
            raise DamagedError(f"{path} was committed and is gone; run `store repair`") from None
