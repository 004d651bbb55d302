"""The face of the store: priors, variants and embeddings under keys, and a manifest that lists them.

    store = Store.open("s3://bucket/headstart")
    with store.claim("priors", key) as claim:
        if claim.commit is None:
            claim.put_tensors("step_0000.safetensors", {"latents": latents})
            claim.publish(recipe=recipe, row={"prompt": "a cat"})

Two promises: what was published is whole, and a manifest row never points at nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_store import layout
from prior_store.backends.address import open_files
from prior_store.backends.files import FaultPoint
from prior_store.backends.root import open_root
from prior_store.errors import KeyNotFoundError, NoSpaceError
from prior_store.objects.holdings import Holdings

if TYPE_CHECKING:
    from prior_store.care.gc import Collected
    from prior_store.care.importing import Imported
    from prior_store.care.repair import Repair
    from prior_store.care.verify import Progress, Report
    from prior_store.manifest.compact import Compaction


class Store(Holdings):
    """Keeps what was made under the key of its recipe. Cheap to open; safe to use from many threads and processes."""

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        storage_options: Mapping[str, object] | None = None,
        create: bool = True,
        verify_hashes: bool = True,
        check_digests: bool = False,
        fault_point: FaultPoint | None = None,
    ) -> "Store":
        """Open the store at a folder or URL, making one in an empty place; say clearly why that is impossible."""
        files = open_files(str(url), storage_options, fault_point)
        root = open_root(files, create=create)
        return cls(files, root, verify_hashes=verify_hashes, check_digests=check_digests)

    # Batches

    def put_batch_file(self, batch: str, name: str, content: bytes) -> None:
        """Keep a file of a batch (plan, report, resolved settings); a later one replaces it."""
        self.require_writable()
        self.files.put(layout.batch_path(batch, name), content)

    def create_batch_file(self, batch: str, name: str, content: bytes) -> bool:
        """Keep a file of a batch if there is none of this name; tell whether we are the one who did."""
        self.require_writable()
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
        self.require_writable()
        self.files.remove(layout.batch_path(batch, name))

    def list_batches(self) -> list[str]:
        """Name all batches, in order of their names."""
        return self.files.names(layout.BATCHES)

    # Care

    def compact(self, *, grace_s: float | None = None) -> "Compaction":
        """Join the manifest's small files into one; what was joined goes after a grace time."""
        from prior_store.manifest import compact

        self.require_writable()
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

        self.require_writable()
        return import_all(self, source)

    def gc(self, *, dry_run: bool = True, **options: Any) -> "Collected":
        """Free room; by default only tell what would go. See `prior_store.care.gc.gc` for the options."""
        from prior_store.care.gc import gc

        return gc(self, dry_run=dry_run, **options)

    def du(self) -> dict[str, Any]:
        """Add up what lies where."""
        from prior_store.care.usage import du

        return du(self)

    def require_space(self, needed: int) -> None:
        """Refuse early what will not fit: asked before a prior is recorded, not after an hour of work."""
        free = self.files.free_bytes()
        if free is not None and free < needed:
            raise NoSpaceError(
                f"{needed / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free under {self.url}; keep fewer "
                "steps, or free some room with `headstart store gc`"
            )
