"""Which row of a key counts: the latest, but a finished one stands above all that a removal does not bury."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from prior_store.manifest import schema

RANKED: Final = ("key", "status", "recorded_at")
"""The columns that decide."""

_STANDING: Final = 2**62


def latest(table: pa.Table) -> pa.Table:
    """Keep the row of each key that counts most."""
    table = _unburied(table)
    if table.num_rows < 2:
        return table
    # A finished row stands above all others that are not buried by a later removal; then the later one counts.
    done = pc.equal(table["status"], schema.DONE).cast(pa.int64())
    rank = pc.add(pc.fill_null(table["recorded_at"].cast(pa.int64()), 0), pc.multiply(done, _STANDING))
    ordering = pa.table({"key": table["key"], "rank": rank})
    order = pc.sort_indices(ordering, sort_keys=[("key", "ascending"), ("rank", "descending")])
    keys = ordering["key"].combine_chunks().take(order)
    first = pa.concat_arrays([pa.array([True]), pc.not_equal(keys[1:], keys[:-1])])
    return table.take(order.filter(first))


def reduced(table: pa.Table) -> pa.Table:
    """Drop the rows that can never count again: keep the latest of each key, and the removal that it follows."""
    winners = latest(table)
    buried = winners.filter(pc.invert(pc.is_in(winners["status"], pa.array([schema.DONE, schema.REMOVED]))))["key"]
    removals = table.filter(pc.equal(table["status"], schema.REMOVED))
    return pa.concat_tables([winners, latest(removals.filter(pc.is_in(removals["key"], buried.combine_chunks())))])


def _unburied(table: pa.Table) -> pa.Table:
    """Leave out the rows of an object that were written before it was removed."""
    removals = table.filter(pc.equal(table["status"], schema.REMOVED))
    if removals.num_rows == 0:
        return table
    last = removals.group_by("key").aggregate([("recorded_at", "max")])
    at = pc.index_in(table["key"], last["key"].combine_chunks())
    removed_at = last["recorded_at_max"].take(at)
    return table.filter(pc.fill_null(pc.greater_equal(table["recorded_at"], removed_at), fill_value=True))


def won_by_second(first: pa.Table, second: pa.Table) -> pa.Array:
    """Name the keys whose row in the second table counts more than that in the first."""
    both = pa.concat_tables(
        table.append_column("second", pa.array([mark] * table.num_rows, pa.bool_()))
        for table, mark in ((first, False), (second, True))
    )
    winners = latest(both)
    return winners.filter(winners["second"])["key"].combine_chunks()
