"""Takes the history out of any diffusers scheduler as plain values, and puts it back."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from prior_engine.errors import SnapshotError

Tensors = dict[str, torch.Tensor]
_PREFIX = "scheduler"


def baseline(scheduler: Any) -> dict[str, Any]:
    """What the scheduler looks like before its first step."""
    return {name: _copied(value) for name, value in vars(scheduler).items()}


def capture(scheduler: Any, before: Mapping[str, Any]) -> tuple[dict[str, Any], Tensors]:
    """Everything that the steps have changed since `before`: JSON values, and the tensors that they point to."""
    tensors: Tensors = {}
    tree = {
        name: _packed(value, f"{_PREFIX}.{name}", tensors)
        for name, value in vars(scheduler).items()
        if name not in before or not _same(value, before[name])
    }
    return tree, tensors


def restore(scheduler: Any, tree: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Make a fresh scheduler stand where the captured one stood."""
    for name, value in tree.items():
        setattr(scheduler, name, _unpacked(value, tensors, device))


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {name: _copied(item) for name, item in value.items()}
    return value


def _same(now: Any, before: Any) -> bool:
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, torch.Tensor):
        return now.dtype == before.dtype and now.device == before.device and torch.equal(now, before)
    if isinstance(now, np.ndarray):
        return now.dtype == before.dtype and np.array_equal(now, before)
    if isinstance(now, (list, tuple)):
        return len(now) == len(before) and all(map(_same, now, before))
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_same(now[name], before[name]) for name in now)
    return bool(now == before)


def _packed(value: Any, name: str, tensors: Tensors) -> Any:
    """`value` as JSON; a tensor becomes its name. Marked objects have one key that starts with '$'."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"$tensor": name, "on": "host" if value.device.type == "cpu" else "device"}
    if isinstance(value, np.ndarray) and value.dtype != object:
        tensors[name] = torch.from_numpy(value.copy())
        return {"$array": name}
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        tensors[name] = torch.from_numpy(np.asarray(value).reshape(1).copy())
        return {"$scalar": name}
    if isinstance(value, torch.Size):
        return {"$size": list(value)}
    if type(value) is list:
        return [_packed(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
    if type(value) is tuple:
        return {"$tuple": [_packed(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"$dict": {key: _packed(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    raise SnapshotError(
        f"the solver's attribute {name.removeprefix(_PREFIX + '.')!r} holds a {type(value).__name__}, which cannot be "
        "stored; choose a solver whose history is tensors and plain values"
    )


def _unpacked(value: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors, device) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        tensor = tensors[value["$tensor"]]
        return tensor.to(device, copy=True) if value["on"] == "device" or tensor.ndim > 1 else tensor.clone()
    if "$array" in value:
        return tensors[value["$array"]].numpy().copy()
    if "$scalar" in value:
        return tensors[value["$scalar"]].numpy()[0]
    if "$tuple" in value:
        return tuple(_unpacked(item, tensors, device) for item in value["$tuple"])
    if "$size" in value:
        return torch.Size(value["$size"])
    if "$float" in value:
        return float(value["$float"])
    return {key: _unpacked(item, tensors, device) for key, item in value["$dict"].items()}
