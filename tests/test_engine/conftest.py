"""Tiny models, built once a session, and warm engines on them."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]


@pytest.fixture(scope="session", autouse=True)
def _one_thread(tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    os.environ["HEADSTART_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(kind)` is the folder of the tiny model of that kind."""
    import tiny_models

    root = tmp_path_factory.mktemp("tiny")
    return cache(lambda kind: tiny_models.build(kind, root / kind))


@pytest.fixture(scope="session")
def engine(tiny):
    """`engine(kind, dtype)` is a warm engine, shared by the whole session."""
    from prior_engine import Engine, ModelSpec

    return cache(lambda kind, dtype="auto": Engine(ModelSpec(source=str(tiny(kind)), device="cpu", dtype=dtype)))
