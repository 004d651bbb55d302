"""What can be wrong with a store: one broken promise, and where."""

from dataclasses import dataclass
from typing import Final

TORN_COMMIT: Final = "torn commit"
MISSING_FILE: Final = "missing file"
WRONG_BYTES: Final = "wrong bytes"
ROW_WITHOUT_OBJECT: Final = "row without object"
OBJECT_WITHOUT_ROW: Final = "object without row"
ROW_DIFFERS: Final = "row differs from object"
DAMAGED_MANIFEST: Final = "damaged manifest file"
DAMAGED_EMBEDDING: Final = "damaged embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One broken promise, and where."""

    what: str
    path: str
    text: str
    kind: str | None = None
    key: str | None = None
