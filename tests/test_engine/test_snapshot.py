"""A snapshot comes back from its bytes as it was, whatever a solver may hold."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from prior_engine import Snapshot
from prior_engine.errors import SnapshotError
from prior_engine.runs.solvers import state as solver_state

DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn]


def tensors(dtypes, min_dims=0):
    shapes = st.lists(st.integers(0, 4), min_size=min_dims, max_size=5).map(tuple)

    def drawn(shape, dtype, seed):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 50
        return values.to(dtype)

    return st.builds(drawn, shapes, st.sampled_from(dtypes), st.integers(0, 2**31))


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(),
    st.text(max_size=8),
    tensors(DTYPES),
    st.integers(-1000, 1000).map(np.int64),
    st.floats(width=32).map(np.float32),
    st.lists(st.floats(allow_nan=False), max_size=4).map(np.array),
    st.lists(st.integers(0, 9), max_size=5).map(torch.Size),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=8,
)


class Solver:
    """Anything with attributes."""


def raw(tensor):
    """The bytes of a tensor, so that NaN equals NaN and every dtype can be compared."""
    return tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else torch.empty(0)


def same(now, was):
    """Equal in type, dtype and every bit; NaN equals NaN."""
    if type(now) is not type(was):
        return False
    if isinstance(was, torch.Tensor):
        return now.dtype == was.dtype and now.shape == was.shape and torch.equal(raw(now), raw(was))
    if isinstance(was, (np.ndarray, np.generic)):
        return now.dtype == was.dtype and now.shape == was.shape and now.tobytes() == was.tobytes()
    if isinstance(was, float) and math.isnan(was):
        return math.isnan(now)
    if type(was) in (list, tuple):
        return len(now) == len(was) and all(map(same, now, was))
    if isinstance(was, dict):
        return now.keys() == was.keys() and all(same(now[name], was[name]) for name in was)
    return now == was


@settings(deadline=None, max_examples=settings().max_examples * 3 // 2)
@given(
    state=st.dictionaries(st.text("abc_", min_size=1, max_size=5), trees, max_size=4),
    latents=tensors(FLOATS, min_dims=1),
    generators=st.lists(st.integers(0, 2**32), max_size=3),
    step=st.integers(0, 100),
    sigma=st.floats(0, 1),
    pins=st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()))),
)
def test_a_snapshot_survives_its_bytes(state, latents, generators, step, sigma, pins):
    made = Solver()
    vars(made).update(state)
    tree, tensors_of_state = solver_state.capture(made, {})
    kept = Snapshot(
        step=step,
        steps=step + 2,
        at=step + 1,
        sigma=sigma,
        timestep=1000 * sigma,
        latents=latents,
        state=tree,
        state_tensors=tensors_of_state,
        generators=tuple(torch.Generator().manual_seed(seed).get_state() for seed in generators),
        sigmas=(1.0, sigma),
        timesteps=(1000.0,),
        pins=pins,
        told=(pins, {}),
        shift=5.0,
    )
    data = save(kept.tensors(), metadata=kept.metadata())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    again = Snapshot.from_parts(load(data), header["__metadata__"])

    fresh = Solver()
    solver_state.restore(fresh, again.state, again.state_tensors, torch.device("cpu"))
    assert vars(fresh).keys() == vars(made).keys()
    for name, value in vars(made).items():
        assert same(vars(fresh)[name], value), name
    assert again.latents.dtype == latents.dtype
    assert torch.equal(raw(again.latents), raw(latents))
    assert len(again.generators) == len(generators)
    for now, was in zip(again.generators, kept.generators, strict=True):
        assert torch.equal(now, was)
    for name in (
        "step",
        "steps",
        "at",
        "sigma",
        "timestep",
        "shift",
        "sigmas",
        "timesteps",
        "pins",
        "told",
        "batch_size",
        "is_final",
    ):
        assert getattr(again, name) == getattr(kept, name)


def test_only_what_the_steps_changed_is_stored():
    made = Solver()
    made.table, made.count, made.history = torch.arange(5), 0, [None, None]
    before = solver_state.baseline(made)
    made.count = 1
    made.history[1] = torch.ones(2)
    tree, tensors_of_state = solver_state.capture(made, before)
    assert set(tree) == {"count", "history"}
    assert set(tensors_of_state) == {"scheduler.history.1"}


def test_a_tensor_that_was_changed_in_place_is_stored():
    made = Solver()
    made.buffer = torch.zeros(3)
    before = solver_state.baseline(made)
    made.buffer[1] = 1
    assert set(solver_state.capture(made, before)[0]) == {"buffer"}


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {object()}}, np.array([object()])])
def test_what_cannot_be_stored_is_refused_by_name(value):
    made = Solver()
    made.odd_history = value
    with pytest.raises(SnapshotError, match=r"the solver's attribute 'odd_history.*cannot be stored"):
        solver_state.capture(made, {})


def test_what_is_not_a_snapshot_is_refused():
    with pytest.raises(SnapshotError, match="has format None"):
        Snapshot.from_parts({"latents": torch.zeros(1)}, {})
    whole = Snapshot(step=0, steps=2, at=1, sigma=0.5, timestep=500.0, latents=torch.zeros(1))
    with pytest.raises(SnapshotError, match=r"not whole.*latents"):
        Snapshot.from_parts({}, whole.metadata())
    with pytest.raises(SnapshotError, match="not whole"):
        Snapshot.from_parts(whole.tensors(), {k: v for k, v in whole.metadata().items() if k != "sigma"})
