"""How much room a store takes, and for what."""

from typing import Any

import pyarrow.compute as pc

from prior_store import layout
from prior_store.manifest import schema
from prior_store.objects.holdings import Holdings


def du(store: Holdings) -> dict[str, Any]:
    """Add up what lies where: bytes and files by room, bytes and objects by batch."""
    rooms = {}
    for room in layout.ROOMS:
        entries = store.files.find(room)
        rooms[room] = {"files": len(entries), "bytes": sum(entry.bytes for entry in entries.values())}
    batches: dict[str, dict[str, int]] = {}
    rows = store.manifest(pc.field("status") == schema.DONE, ["batch", "bytes"], past_damage=True)
    for batch, size in zip(rows["batch"].to_pylist(), rows["bytes"].to_pylist(), strict=True):
        total = batches.setdefault(batch or "", {"objects": 0, "bytes": 0})
        total["objects"] += 1
        total["bytes"] += size or 0
    return {
        "rooms": rooms,
        "batches": dict(sorted(batches.items())),
        "bytes": sum(room["bytes"] for room in rooms.values()),
        "free_bytes": store.files.free_bytes(),
    }
