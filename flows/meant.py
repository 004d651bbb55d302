"""Which setting somebody meant: by the words of other tools, by words in common, by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from tasks.sheets.columns import COLUMNS

# What the same thing is called elsewhere. Of several settings the one in the group that was named is meant, else the first.
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("steps", "inference_steps", "sampling_steps", "sample_steps", "num_sampling_steps"),
        ("schedule.num_inference_steps",),
    ),
    **dict.fromkeys(("shift", "flow_shift", "time_shift"), ("schedule.sigma_shift",)),
    **dict.fromkeys(("sampler", "solver"), ("schedule.scheduler",)),
    "strength": ("schedule.denoising_strength",),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance_scale", "scale"), ("guidance",)),
    **dict.fromkeys(("negative", "neg_prompt"), ("negative_prompt",)),
    "k": ("start_step",),
    **dict.fromkeys(("fps", "framerate", "frame_rate"), ("video.fps", "model.fps")),
    **dict.fromkeys(("num_frames", "length"), ("model.frames",)),
    **dict.fromkeys(("size", "resolution"), ("model.height",)),
    **dict.fromkeys(("device", "gpu", "gpus", "cuda"), ("runner.devices",)),
    **dict.fromkeys(("threads", "num_workers", "jobs"), ("runner.workers",)),
    **dict.fromkeys(("checkpoint", "ckpt", "weights", "model_id", "name_or_path"), ("model.source",)),
    **dict.fromkeys(("path", "folder", "dir"), ("model.source", "sheet.path", "store.url")),
    **dict.fromkeys(("uri", "output", "out", "outdir", "output_dir"), ("store.url",)),
    **dict.fromkeys(("input", "file", "csv", "prompts"), ("sheet.path",)),
    **dict.fromkeys(("precision", "torch_dtype"), ("model.dtype",)),
    **dict.fromkeys(("attention", "attn"), ("accel.attention_backend",)),
    **dict.fromkeys(("retry", "tries"), ("retries",)),
    "name": ("batch",),
}
_NEAR_ENOUGH, _IN_ITS_ROOM = 0.7, 0.12


def meant(text: str, known: Sequence[str]) -> str | None:
    """The one of `known` (settings and groups) that `text` comes nearest to; None when nothing is near."""
    asked = text.strip("-").lower().replace("-", "_")
    if asked in known:
        return asked
    room, _, name = asked.rpartition(".")
    room = next(iter(difflib.get_close_matches(room, {_room(key) for key in known if "." in key}, n=1)), "")
    same = (*SYNONYMS.get(name, ()), *(key for key in known if _name(key) == name))
    likeness, best = max(
        (_likeness(name, key, same) + (_IN_ITS_ROOM if _room(key) == room else 0), key) for key in known
    )
    return best if likeness >= _NEAR_ENOUGH else None


def suggestion(text: str, known: Iterable[str]) -> str:
    """What to add to a message: the setting that was meant, or where else the name belongs."""
    known = list(known)
    if text in COLUMNS and text not in map(_name, known):
        return " (it is a column of the sheet)"
    near = meant(text, known)
    return f" (did you mean {near!r}?)" if near else ""


def nearest(text: str, names: Sequence[str]) -> str:
    """What to add to a message where one of a few names was needed."""
    near = difflib.get_close_matches(text, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _likeness(name: str, key: str, same: Sequence[str]) -> float:
    if key in same:
        return 1 - same.index(key) / 100  # the first of several goes before the others
    spelt = difflib.SequenceMatcher(None, name, _name(key)).ratio()
    words = set(name.split("_"))
    shared = len(words & set(_name(key).split("_"))) / len(words)
    return max(spelt, 0.9 * shared)


def _room(key: str) -> str:
    return key.rpartition(".")[0]


def _name(key: str) -> str:
    return key.rpartition(".")[2]
