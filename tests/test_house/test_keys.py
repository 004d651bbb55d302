"""A key is its result: what decides one bit of it changes the key, and nothing else does.

Everything is asked of the real way from settings and sheet to keys. Results that differ in one thing only are planned by the
thousand, and no two of them, wherever they come from, may share a key; what is said otherwise, or decides nothing, keeps it.
"""

import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from prior_engine.models.fingerprint import fingerprint
from prior_engine.models.info import inspect_model
from prior_engine.requests.conditioning import Conditioning, Lora
from prior_engine.requests.identity import Identity
from prior_engine.requests.pictures import Clip, Picture
from prior_engine.requests.schedule import Schedule
from prior_store import Store, recipe_key
from tasks.planning.models.source import DEMO_WEIGHTS, IMAGE_TO_VIDEO, known, settled, spec_for
from tasks.planning.plan import make_plan
from tasks.planning.recipes import prior_recipe
from tasks.settings import Settings
from tasks.sheets.load import load_sheet

EIGHT = [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
NEXT_TO_EIGHT = [*EIGHT[:-1], 0.12500000000000003]
THOUSANDS = [1000.0 * sigma for sigma in EIGHT]
SLOWER = "ways too slowly, like the light of the sun"

# What decides a prior's bits. The first value of each is the usual one; no two values of one mean the same.
PRIOR = {
    "model": ["whole", "model_index.json", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"],
    "model.dtype": ["fp32", "bf16", "fp16"],
    "model.max_sequence_length": [None, 128, 129],
    "accel.attention_backend": [None, "_native_math", "_native_efficient"],
    "accel.quantization": [None, "float8_e4m3fn", "float8_e5m2", "int8", "int8_dynamic"],
    "accel.vae_tiling": [False, True],
    "schedule.scheduler": ["FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler", None],
    "schedule.config": [{}, {"solver_order": 2}, {"solver_order": 3}, {"solver_order": 3, "lower_order_final": False}],
    "schedule.sigma_shift": [5.0, 3.0, 5.000000000000001, None],
    "schedule.noise_layout": ["bcthw", "btchw"],
    "schedule": [
        {"num_inference_steps": 8}, {"num_inference_steps": 9}, {"grid": "diffusers", "num_inference_steps": 8},
        {"grid": "explicit", "sigmas": EIGHT}, {"grid": "explicit", "sigmas": NEXT_TO_EIGHT},
        {"grid": "explicit", "timesteps": THOUSANDS}, {"grid": "explicit", "sigmas": EIGHT, "timesteps": THOUSANDS},
    ],
    "settings.negative_prompt": [None, "blurry", "Blurry", "blurry "],
    "prior.guidance": [None, 1.5, 4.000000000000001],
    "settings.guidance": [4.0, 0.0, 5.0, 5.1],
    "row.base_prompt": ["a caf\u00e9", "a cafe\u0301", "a  caf\u00e9", "a caf\u00e9.", "A caf\u00e9", "a\u200bcaf\u00e9"],
    "row.seed": [3, 4, 0, 2**53, 2**53 + 1, 2**63 - 1],
    "row.width": [64, 80],
    "row.height": [64, 80],
    "row.frames": [9, 13],
    "row.image": ["red", "one pixel", "wide", "tall"],
    "row.last_image": [None, "red", "one pixel"],
}  # fmt: skip
# What decides a variant's beside its prior's.
VARIANT = {
    "row.prompt": ["na\u00efve steps", "nai\u0308ve steps", "na\u00efve  steps", "na\u00efve steps!", "Na\u00efve steps", SLOWER, "0", "/a/b"],
    "row.negative_prompt": [None, "grey", "greys", "blurry"],
    "row.guidance": [None, 1.5, 4.5, 4.500000000000001],
    "row.lora": [(), ("one", 1.0), ("one", 0.5), ("one", -1.0), ("two", 1.0), ("one", 1.0, "two", 1.0), ("two", 1.0, "one", 1.0)],
    "settings.history": ["keep", "fresh"],
    "accel.cache": [
        "none", ("first_block", {}), ("first_block", {"threshold": 0.1}), ("first_block", {"threshold": 0.2}),
        ("taylorseer", {}), ("mag", {"mag_ratios": [1] * 8}), ("mag", {"mag_ratios": [1] * 7 + [1.5]}),
    ],
    "guard": [{}, {"retry_earlier": 1}, {"retry_earlier": 2}, {"retry_earlier": 1, "least_kept": 0.4}, {"retry_earlier": 1, "least_moved": 0.1}],
    "video.fps": [None, 9],
    "video.quality": [8, 7.5],
    "video.pix_fmt": ["yuv420p", "yuv444p"],
    "row.start_step": [2, 3, 0],
    "row.tail": ["exact", 1, 2],
    "row.start": ["snapshot", "line"],
    "row.prior": ["on", "off"],
}  # fmt: skip
# A full run has none of these.
OF_A_START = ("row.start_step", "row.tail", "row.start", "settings.history", "guard")
# What decides nothing.
IDLE = {
    "runner.workers": 7, "runner.chunk_size": 3, "store.url": "memory://elsewhere", "batch": "other", "tags": ("a", "b"),
    "retries": 0, "max_failures": "5%", "prior.keep": "from:4", "prior.lease_s": 5.0, "prior.wait_s": 9.0, "seed": 99,
    "accel.offload": "group", "accel.deterministic": False, "server.mode": "none", "server.port": 9999, "inflection.pairs": 3,
    "sheet.max_rows": 10, "sheet.ignore_unknown": True, "store.verify_hashes": False,
}  # fmt: skip


class Keys(NamedTuple):
    """Of the rows of one prior."""

    prior: str
    variants: tuple[str, ...]


class World:
    """A folder with models, pictures and LoRA files, and the way from what is asked for to its keys."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store.open(f"memory://{folder.name}")
        shutil.copytree(DEMO_WEIGHTS / "i2v", folder / "whole")
        for part in PRIOR["model"][1:]:
            _with_another(folder / "whole", folder / part, part)
        shutil.copytree(folder / "whole", folder / "again")
        red = Image.new("RGB", (64, 32), "red")
        for name in ("red", "again"):
            red.save(folder / f"{name}.png", compress_level=1 if name == "again" else 9)
        red.transpose(Image.Transpose.ROTATE_90).save(folder / "tall.png")
        Image.new("RGB", (65, 32), "red").save(folder / "wide.png")
        red.putpixel((0, 0), (254, 0, 0))
        red.save(folder / "one pixel.png")
        for name, number in (("one", b"\x00\x00\x80\x3f"), ("two", b"\x01\x00\x80\x3f")):
            header = b'{"a.lora_A.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
            (folder / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + number)
        shutil.copy(folder / "one.safetensors", folder / "again.safetensors")

    def keys(self, asked, *, idle=(), spelt=None):
        """The keys of what is asked for; `spelt` says all of it in other words, as that random number has it."""
        tree, row = _said(asked, self.folder)
        for name in idle:
            _put(tree, name, IDLE[name])
        if idle:
            row |= {"id": "other", "tags": "c", "identity": "owl"}
            row["image"] = row["image"].replace("red", "again")
            row["lora"] = row.get("lora", "").replace("one.", "again.")
            tree["model"]["source"] = tree["model"]["source"].replace("whole", "again")
        path = self.folder / "sheet.jsonl"
        if spelt is not None:
            row, path = _in_other_words(row, spelt), self.folder / "sheet.csv"
        path.write_text(_text_of(row, path.suffix))
        tree["sheet"] = {"path": str(path), **tree.get("sheet", {})}
        found = Settings.model_validate(tree)
        if spelt is not None:
            # Every default written out, and every mapping in another order.
            found = Settings.model_validate(_shuffled(found.model_dump(), spelt))
        return self.planned(found)

    def planned(self, found):
        found = settled(found)
        plan = make_plan(found, known(found), load_sheet(found.sheet, found.seed), self.store)
        (prior,) = plan.priors
        return Keys(prior.key, tuple(sorted(variant.key for variant in plan.variants)))


def _with_another(whole, folder, part):
    """A model that shares all its files with the whole one but one of `part`, in which one bit differs."""
    shutil.copytree(whole, folder, copy_function=os.link)
    inside = folder / part
    changed = inside if inside.is_file() else next(inside.glob("*.safetensors"), None) or min(inside.iterdir())
    data = bytearray(changed.read_bytes())
    changed.unlink()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if changed.suffix == ".safetensors" else data + b"\n")


def _put(tree, name, value):
    group, _, key = name.rpartition(".")
    (tree.setdefault(group, {}) if group else tree)[key] = value


def _said(asked, folder):
    """Settings and a row that ask for it."""
    tree = {"model": {"pipeline": IMAGE_TO_VIDEO}, "runner": {"devices": "cpu"}, "schedule": dict(asked["schedule"])}
    tree["model"]["source"] = str(folder / asked["model"])
    row = {"identity": "fox"}
    for name, value in asked.items():
        group, _, key = name.rpartition(".")
        if group == "row":
            row |= {} if value is None else {key: value}
        elif group == "settings":
            tree[key] = value
        elif group:
            _put(tree, name, value)
    for column in ("image", "last_image"):
        row |= {column: f"{row[column]}.png"} if column in row else {}
    loras = row.pop("lora")
    if loras:
        row["lora"] = ";".join(
            f"{name}.safetensors:{weight}" for name, weight in zip(loras[::2], loras[1::2], strict=True)
        )
    if asked["accel.cache"] != "none":
        tree["accel"]["cache"], tree["accel"]["cache_options"] = asked["accel.cache"]
    if asked["guard"]:
        tree["guard"] = {"enabled": True, **asked["guard"]}
    return tree, row


def _in_other_words(row, spelt):
    """The same row as text, its columns in another order, its numbers in other spellings."""
    row = dict(spelt.sample(sorted(row.items()), len(row)))
    for column in ("prompt", "base_prompt", "identity"):
        row[column] = spelt.choice(["{}", " {}", "{}  ", "\t{}\n"]).format(row[column])
    for column in ("seed", "width", "height", "frames", "start_step", "tail", "repeat"):
        if isinstance(row.get(column), int):
            row[column] = spelt.choice(["{}", "+{}", " {} ", "0{}"]).format(row[column])
    if "guidance" in row:
        row["guidance"] = spelt.choice(["{}", "{}0", "+{}"]).format(row["guidance"]).replace(".", spelt.choice(".,"))
    for column in ("tail", "start", "prior"):
        row[column] = spelt.choice([str.upper, str.title, str])(row[column])
    return {spelt.choice([str.upper, str])(column): cell for column, cell in row.items()}


def _text_of(row, ending):
    if ending == ".jsonl":
        return json.dumps(row)
    quoted = ['"{}"'.format(str(cell).replace('"', '""')) for cell in row.values()]
    return f"{';'.join(row)}\n{';'.join(quoted)}\n"


def _shuffled(tree, spelt):
    if not isinstance(tree, Mapping):
        return tree
    return {name: _shuffled(value, spelt) for name, value in spelt.sample(sorted(tree.items()), len(tree))}


def _result_of_prior(asked):
    """All that decides the prior, what is left to another value written out."""
    result = {name: repr(asked[name]) for name in PRIOR}
    result["settings.negative_prompt"] = repr(asked["settings.negative_prompt"] or "")
    del result["settings.guidance"]
    guidance = asked["prior.guidance"]
    return result | {"prior.guidance": asked["settings.guidance"] if guidance is None else guidance}


def _result(asked):
    """All that decides the variant."""
    result = _result_of_prior(asked) | {name: repr(asked[name]) for name in VARIANT}
    negative, guidance = asked["row.negative_prompt"], asked["row.guidance"]
    result["row.negative_prompt"] = (asked["settings.negative_prompt"] or "") if negative is None else negative
    result["row.guidance"] = asked["settings.guidance"] if guidance is None else guidance
    if asked["row.prior"] == "off":
        # What its prior would have been told is nothing to it.
        result |= dict.fromkeys((*OF_A_START, "prior.guidance"))
    return result


def _runs(asked):
    """Whether it can be run: what cannot is refused by the plan, and has no key."""
    kind = asked["accel.cache"][0]
    return not (kind == "mag" and (asked["row.tail"] != "exact" or asked["schedule"].get("num_inference_steps") == 9))


ALL = PRIOR | VARIANT
# Mostly the usual, or everything would be unlike everything else.
asked_for = st.fixed_dictionaries(
    {
        name: st.integers(0, 3).flatmap(lambda n, values=values: st.sampled_from(values if n == 0 else values[:1]))
        for name, values in ALL.items()
    }
).filter(_runs)


def neighbours(asked):
    """All that differ from it in one thing."""
    for name, values in ALL.items():
        for value in values:
            other = {**asked, name: value}
            if value != asked[name] and _runs(other):
                yield other


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    before = os.environ.get("HEADSTART_CACHE")
    os.environ["HEADSTART_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield World(tmp_path_factory.mktemp("world"))
    os.environ.pop("HEADSTART_CACHE")
    if before is not None:
        os.environ["HEADSTART_CACHE"] = before


@pytest.mark.slow
def test_two_results_never_share_a_key_and_one_result_has_one(world):
    known, planned = {}, 0

    # What differs is told as it is found: to look for a smaller one would plan thousands more.
    @settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(asked_for)
    def each(asked):
        nonlocal planned
        for one in (asked, *neighbours(asked)):
            planned += 1
            keys = world.keys(one)
            for key, result in ((keys.prior, _result_of_prior(one)), (*keys.variants, _result(one))):
                whole = json.dumps(result, sort_keys=True)
                assert known.setdefault(key, whole) == whole
                assert known.setdefault(whole, key) == key

    each()
    assert planned >= 1000


@settings(max_examples=settings().max_examples * 3 // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=asked_for, idle=st.sets(st.sampled_from(sorted(IDLE)), min_size=1), seed=st.integers(0, 10**6))
def test_what_decides_nothing_and_other_words_change_no_key(world, asked, idle, seed):
    keys = world.keys(asked)
    assert world.keys(asked, idle=sorted(idle)) == keys
    assert world.keys(asked, spelt=random.Random(seed)) == keys


def test_a_parent_is_all_the_way_up_to_its_snapshot(world):
    """Rows that differ in nothing but in what their parents were told."""
    keys = []
    for prompt, start_step, seed in (("sits", 1, 3), ("sits ", 2, 3), ("sits", 2, 4), ("lies", 1, 3)):
        rows = [
            {"id": "one", "prompt": prompt, "start_step": start_step, "tail": "exact", "start": "snapshot"},
            {"id": "two", "prompt": "runs", "start_step": 4, "tail": "exact", "start": "snapshot", "parent": "one"},
        ]
        rows = [{"identity": "fox", "base_prompt": "a fox", "image": "red.png", "seed": seed, **row} for row in rows]
        path = world.folder / "chain.jsonl"
        for order in (rows, rows[::-1]):
            path.write_text("\n".join(map(json.dumps, order)))
            tree = {"model": {"source": str(world.folder / "whole"), "width": 64, "height": 64, "frames": 9}}
            keys.append(world.planned(Settings.model_validate(tree | {"sheet": {"path": str(path)}})))
    assert [one == other for one, other in zip(keys[::2], keys[1::2], strict=True)] == [True] * 4
    assert len({key for chain in keys[::2] for key in chain.variants}) == 8


def test_the_kind_of_device_decides_the_precision_that_is_left_to_it(world):
    """Nothing else: a key is the same on every machine, and precision is what devices differ in by themselves."""
    usual = {name: values[0] for name, values in ALL.items()}

    def keys(dtype, devices):
        tree, row = _said({**usual, "model.dtype": dtype}, world.folder)
        (world.folder / "sheet.jsonl").write_text(json.dumps(row))
        tree |= {"runner": {"devices": devices}, "sheet": {"path": str(world.folder / "sheet.jsonl")}}
        return world.planned(Settings.model_validate(tree))

    assert keys("auto", "cpu") == keys("fp32", "cpu") == keys("fp32", "cuda:0")
    assert keys("auto", "cuda:0") == keys("bf16", ("cuda:0", "cuda:1")) != keys("auto", "cpu")


def test_what_no_sheet_can_say_is_told_apart_as_well(world):
    """What the engine takes from Python alone."""
    red, one_pixel = (Picture.open(world.folder / f"{name}.png") for name in ("red", "one pixel"))
    lora = Lora(path="a.safetensors", sha256="0" * 64)
    identity, told, schedule = Identity(prompt="a"), Conditioning(prompt="a"), Schedule()
    info = inspect_model(spec_for(Settings()))
    keys = [
        recipe_key(prior_recipe(info.describe(), *asked))
        for asked in (
            (identity, told, schedule.describe()),
            *((identity, told, replace(schedule, denoising_strength=x).describe()) for x in (0.5, 0.5000000000000001)),
            *(
                (replace(identity, video=Clip.open(x)), told, schedule.describe())
                for x in ([red], [one_pixel], [red] * 2)
            ),
            (replace(identity, video=Clip.open([red]), mask=Clip.open([red])), told, schedule.describe()),
            (replace(identity, references=(red,)), told, schedule.describe()),
            (replace(identity, references=(red, one_pixel)), told, schedule.describe()),
            (replace(identity, references=(one_pixel, red)), told, schedule.describe()),
            *((replace(identity, control_scale=x), told, schedule.describe()) for x in (0, 1, 0.5)),
            (identity, replace(told, guidance_2=1.5), schedule.describe()),
            *(
                (identity, replace(told, loras=(replace(lora, expert=x),)), schedule.describe())
                for x in ("high", "low", "both")
            ),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_a_file_of_a_model_that_another_of_its_size_and_time_replaces_is_another_model(world, tmp_path):
    """As archives leave them, in which every file has the same time."""
    model = tmp_path / "model"
    shutil.copytree(world.folder / "whole", model)
    weights = next((model / "transformer").glob("*.safetensors"))
    before, was = fingerprint(model), weights.stat()
    other = tmp_path / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.replace(weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert fingerprint(model) != before
