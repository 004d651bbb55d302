"""Say what was seen, what is needed, and what to do.

StoreError
├── RecipeError (ValueError)               a value in a recipe has no stable form, or can never enter one
├── BadNameError (ValueError)              a kind, file or batch name that the layout does not have
├── StoreAddressError (ValueError)         the URL cannot name a store
├── NotAStoreError (ValueError)            the folder holds other things and is not written to
├── StoreVersionError (ValueError)         the store was written in a newer format
├── StoreUnreachableError (OSError)        the root cannot be read or written: rights, bucket, network
├── StoreReadOnlyError (PermissionError)   the root can be read but not written
├── NoSpaceError (OSError)                 what is to be written does not fit
├── KeyNotFoundError (KeyError)            no object has this key
├── AmbiguousKeyError (LookupError)        a key prefix names more than one object
├── DamagedError (ValueError)              bytes are not what was committed
├── RowError (ValueError)                  a manifest row has unknown columns or impossible values
├── ClaimLostError (RuntimeError)          the lease went to somebody else: this attempt cannot publish
├── ClaimTimeoutError (TimeoutError)       another holder kept the key for longer than we may wait
├── ClaimCancelledError (InterruptedError) the caller gave up waiting
├── DifferentBytesError (ValueError)       the same recipe gave other bytes than those committed
└── ExactnessError (ValueError)            lower precision was asked for where exact bits are promised
"""


class StoreError(Exception):
    """Something the store cannot do; catch this to catch them all."""

    __str__ = Exception.__str__  # KeyError would print its message in quotes


class RecipeError(StoreError, ValueError):
    """A value in a recipe has no stable form, or does not decide a result."""


class BadNameError(StoreError, ValueError):
    """A kind, file or batch name that the layout does not have."""


class StoreAddressError(StoreError, ValueError):
    """The URL cannot name a store."""


class NotAStoreError(StoreError, ValueError):
    """The folder is not a store, and it is not ours to write to."""


class StoreVersionError(StoreError, ValueError):
    """The store was written in a newer format than this release reads."""


class StoreUnreachableError(StoreError, OSError):
    """The root of the store cannot be reached."""


class StoreReadOnlyError(StoreError, PermissionError):
    """The store can be read, not written."""


class NoSpaceError(StoreError, OSError):
    """There is not enough room for what is to be written."""


class KeyNotFoundError(StoreError, KeyError):
    """No object has this key."""


class AmbiguousKeyError(StoreError, LookupError):
    """A key prefix names more than one object."""


class DamagedError(StoreError, ValueError):
    """Bytes in the store are not what was committed."""


class RowError(StoreError, ValueError):
    """A manifest row has unknown columns or impossible values."""


class ClaimLostError(StoreError, RuntimeError):
    """The lease of a claim went to somebody else."""


class ClaimTimeoutError(StoreError, TimeoutError):
    """Another holder kept the key longer than we were told to wait."""


class ClaimCancelledError(StoreError, InterruptedError):
    """The caller gave up waiting for a key."""


class DifferentBytesError(StoreError, ValueError):
    """The same recipe gave other bytes: the work is not deterministic."""


class ExactnessError(StoreError, ValueError):
    """Lower precision was asked for where exact bits are promised."""
