"""Which devices a batch runs on, and what that decides."""

import pytest

from tasks.planning import model_source as devices
from tasks.settings import ModelSettings, RunnerSettings, Settings


@pytest.fixture
def settings(tiny_t2v):
    return lambda **runner: Settings(model=ModelSettings(source=str(tiny_t2v)), runner=RunnerSettings(**runner))


def test_the_key_knows_the_dtype_of_the_devices_that_were_chosen(settings, monkeypatch):
    monkeypatch.setattr(devices, "resolve_device", lambda _: "cuda")
    # A machine with a GPU where the batch was told to use the CPU: what runs is fp32, so that is what the key must say.
    assert devices.spec_for(settings(devices=("cpu",))).dtype == "float32"
    assert devices.spec_for(settings(devices="cpu")).dtype == "float32"
    assert devices.spec_for(settings(devices=("cuda:1",))).dtype == "bfloat16"


def test_all_devices_of_a_batch_compute_in_one_dtype(settings):
    mixed = settings(devices=("cuda:0", "cpu"))
    assert [devices.spec_for(mixed, device).dtype for device in ("cuda:0", "cpu")] == ["bfloat16", "bfloat16"]
    assert devices.spec_for(mixed, "cpu").device == "cpu"
