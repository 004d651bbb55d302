"""Memory by the books: beside what a GPU took, and a run that is made to fit."""

import json
from types import SimpleNamespace

import pytest
import torch
from engine_cases import identity, told

from benchmarks.gpu import books
from flows.compose import compose_settings
from prior_engine import Engine, ModelSpec, Schedule
from prior_engine.models.account import GIB, counted_of
from tasks.errors import PlanError
from tasks.planning.models import memory
from tasks.planning.models.source import known, settled
from tasks.sheets.load import load_sheet

MEASURED = json.loads(books.MEASURED.read_text())


def by_the_books(name, video="480p", **arrangement):
    return {phase.name: phase for phase in books.taken(name, video, **arrangement)}


def test_weights_are_counted_by_layer_and_block():
    shapes = {
        "embed.weight": (10, 4), "embed.bias": (10,), "norm.weight": (4,),
        "blocks.0.a.weight": (4, 4), "blocks.0.b.weight": (4, 8), "blocks.1.a.weight": (4, 4),
    }  # fmt: skip
    found = counted_of(shapes)
    assert (found.whole, found.layer, found.block, found.outside) == (118, 50, 48, 54)
    renamed = counted_of({f"model.diffusion_model.{name}": shape for name, shape in shapes.items()})
    assert renamed == found


def test_the_books_say_what_a_gpu_took():
    small, large = by_the_books("Wan 2.1 T2V 1.3B"), by_the_books("Wan 2.1 T2V 14B")
    assert small["denoising"].total == pytest.approx(MEASURED["1.3B: prior"]["peak_gib"], rel=0.03)
    assert small["decoding"].total == pytest.approx(MEASURED["1.3B: decode"]["peak_gib"], rel=0.03)
    # One pass was measured without a VAE beside it.
    vae = small["prompts"].weights - counted_text() * 2 / GIB
    assert large["denoising"].total - vae == pytest.approx(MEASURED["14B: one pass"]["peak_gib"], rel=0.03)
    narrow = by_the_books("Wan 2.1 T2V 14B", quantization="float8_e4m3fn")["denoising"].total - vae
    assert narrow == pytest.approx(MEASURED["14B: one pass, fp8 storage"]["peak_gib"], rel=0.05)
    waiting = by_the_books("Wan 2.1 T2V 1.3B", offload="group")["denoising"].total
    assert waiting == pytest.approx(MEASURED["1.3B: three steps, offloaded"]["peak_gib"], rel=memory.MARGIN - 1)


def counted_text():
    return books.architecture("Wan 2.1 T2V 1.3B")[1]["text_encoder"].whole


def test_14b_from_pictures_fits_a_card_of_eight_with_all_that_saves_memory():
    *_, whole = memory.ARRANGEMENTS
    assert memory.most(books.taken("Wan 2.1 I2V 14B", "480p", **whole)) * memory.MARGIN <= 8
    assert memory.most(books.taken("Wan 2.1 I2V 14B", "480p")) > 24


def waits(part):
    hooks = [layer._diffusers_hook for layer in part.modules() if hasattr(layer, "_diffusers_hook")]
    return any(hook.get_hook("group_offloading") is not None for hook in hooks)


def test_offload_changes_no_bits_of_a_model_with_encoders_and_all_of_them_wait(tiny):
    schedule = Schedule(num_inference_steps=3)
    ends, hooked = [], []
    for offload in ("none", "group"):
        engine = Engine(ModelSpec(source=str(tiny("wan-i2v")), device="cpu", offload=offload))
        *_, last = engine.record(identity("wan-i2v"), told("wan-i2v"), schedule)
        ends.append(last.latents)
        parts = {
            name: getattr(engine._components.pipe, name) for name in ("transformer", "text_encoder", "image_encoder")
        }
        hooked.append([waits(part) for part in parts.values()])
    assert torch.equal(*ends)
    assert hooked == [[False] * 3, [True] * 3]


@pytest.fixture
def told_of(tiny, tmp_path):
    (tmp_path / "s.csv").write_text("identity,prompt,frames\nfox,runs,9\nfox,sits,17\n")
    small = ["model.height=32", "model.width=32", "model.frames=9"]

    def of(*more):
        settings = compose_settings([f"sheet={tmp_path / 's.csv'}", f"model={tiny('wan-t2v')}", *small, *more])
        settings = settled(settings)
        return settings, known(settings), load_sheet(settings.sheet)

    return of


def fits_from(bounds, monkeypatch):
    """Stand-in books: so much is taken as the arrangement is the first, second, third, fourth."""

    def phases(info, parts, size, offload):
        place = (offload == "group") + bool(info.vae_tiling) + (info.quantization is not None)
        return (SimpleNamespace(name="denoising", total=bounds[place], work=1.0),)

    monkeypatch.setattr(memory, "phases", phases)


@pytest.mark.parametrize(
    ("budget", "arranged"),
    [
        (80, ("none", False, None)),
        (30, ("group", False, None)),
        (20, ("group", True, None)),
        (10, ("group", True, "float8_e4m3fn")),
    ],
)
def test_only_as_much_is_saved_as_is_needed(told_of, monkeypatch, budget, arranged):
    fits_from((40, 20, 10, 5), monkeypatch)
    settings, model = memory.made_to_fit(*told_of(f"accel.budget={budget}"))
    accel = settings.accel
    assert (accel.offload, accel.vae_tiling, accel.quantization) == arranged
    # What the plan makes keys of is the model as it will be loaded.
    assert (model.vae_tiling, model.quantization) == arranged[1:]
    # What was asked for stays.
    _, asked = memory.made_to_fit(*told_of(f"accel.budget={budget}", "accel.quantization=float8_e5m2"))
    assert asked.quantization == "float8_e5m2"


def test_what_cannot_be_made_to_fit_is_refused_with_its_figures(told_of, monkeypatch):
    fits_from((40, 20, 10, 5), monkeypatch)
    with pytest.raises(
        PlanError, match=r"accel.budget=4: this model needs 6.0 GiB for 32x32, 17 frames, .*denoising 5.0 GiB"
    ):
        memory.made_to_fit(*told_of("accel.budget=4"))


def test_a_card_that_is_too_small_is_told_before_anything_is_loaded(told_of, monkeypatch):
    told = told_of()
    memory.check_room(*told)  # a CPU takes what there is
    monkeypatch.setattr(memory, "devices_of", lambda _: ("cuda:0", "cuda:1"))
    monkeypatch.setattr(memory, "room_on", {"cuda:0": 24.0, "cuda:1": 1e-6}.__getitem__)
    with pytest.raises(
        PlanError, match=r"cuda:1 has 0.0 GiB, and this model needs .* as the settings are \(prompts .*set accel.budget"
    ):
        memory.check_room(*told)


@pytest.mark.parametrize("card", [8, 16, 24, 80])
def test_a_card_has_a_choice_of_its_own(card):
    assert compose_settings([f"accel={card}gb"]).accel.budget == card
