"""Which devices a batch runs on, and what that decides."""

import os
import threading

import pytest

from tasks.errors import InterruptedBatchError, PlanError
from tasks.making.devices import DevicePool
from tasks.planning.models import source as devices
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


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path))
    return tmp_path


class Model:
    """As much of an engine as a lease looks at."""

    def __init__(self, **said):
        self.info = self
        self.said = said

    def describe(self):
        return self.said


def pool_of(settings, **said):
    return DevicePool(settings=settings(), devices=("cpu",), make_engine=lambda *_: Model(**said))


def test_a_model_that_is_not_the_one_of_the_recipe_is_refused_at_the_lease(settings, home):
    pool = pool_of(settings, fingerprint="a", dtype="float32")
    with pool.lease(threading.Event(), {"fingerprint": "a", "dtype": "float32"}):
        pass
    wrong = pytest.raises(PlanError, match="dtype is 'float32' here and 'bfloat16' in the recipe")
    with wrong, pool.lease(threading.Event(), {"fingerprint": "a", "dtype": "bfloat16"}):
        pass
    # Refused, and not kept: the next one gets the device.
    with pool.lease(threading.Event(), {"fingerprint": "a", "dtype": "float32"}):
        pass


def test_what_the_planner_decides_is_written_out_for_all_machines(settings):
    assert settings(devices="cpu").model.dtype == "auto"
    assert devices.settled(settings(devices="cpu")).model.dtype == "fp32"
    assert devices.settled(settings(devices="cuda:0")).model.dtype == "bf16"


def test_a_device_that_is_not_there_is_told_in_one_sentence(settings, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(PlanError, match=r"runner.devices names cuda:0 and torch finds no CUDA device on this machine"):
        devices.check_devices(settings(devices="cuda:0"))
    devices.check_devices(settings(devices="cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices.check_devices(settings(devices=("cuda:0", "cuda:1")))
    with pytest.raises(PlanError, match="cuda:2"):
        devices.check_devices(settings(devices=("cuda:1", "cuda:2")))


def test_a_device_that_another_process_has_is_waited_for_with_a_word(settings, home, monkeypatch, caplog):
    import fcntl

    from tasks.making import devices as leasing

    monkeypatch.setattr(leasing, "_PATIENCE_S", 0.1)
    pool = pool_of(settings)
    with pool.lease(threading.Event()):
        pass  # makes the lock file, with its holder's name in it
    stop = threading.Event()
    with (home / "devices" / "cpu.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(1.0, stop.set).start()
        with caplog.at_level("INFO", logger="headstart"), pytest.raises(InterruptedBatchError), pool.lease(stop):
            pass
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"waiting for cpu, in use by process {os.getpid()} of this machine"]


def test_another_process_that_is_waited_for_is_named_once(caplog):
    from tasks.making.progress import Progress
    from tasks.making.runtime import Runtime

    say = Runtime(store=None, pool=None, progress=Progress()).say_once("prior fox is being made by")
    with caplog.at_level("INFO", logger="headstart"):
        for waited in range(6):
            say("process 7 on a", waited)
        say("process 8 on b", 9)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"prior fox is being made by process {name}; waiting for it" for name in ("7 on a", "8 on b")]
