"""Weights that were distilled for one walk: they cannot be told another guidance or other steps, and wear their LoRA."""

import json

import pytest
from stand_in_hub import stand_in_hub

import flows
from flows.prepare import prepare
from prior_store import Store
from tasks.errors import PlanError
from tests.test_flows.conftest import TINY

SIZE = TINY[:3]
ROWS = "identity,prompt,base_prompt\nfox,a fox runs,a fox\n"


@pytest.fixture
def told(tmp_path, tiny_folder, monkeypatch):
    """The settings of a small batch."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))

    def settings(*more, rows=ROWS):
        (tmp_path / "s.csv").write_text(rows)
        return [f"sheet={tmp_path / 's.csv'}", f"model={tiny_folder}", *SIZE, f"store={tmp_path / 'store'}", *more]

    return settings


@pytest.fixture
def lora(tmp_path):
    """A LoRA that the tiny model can wear, and that changes what it makes."""
    import torch
    from safetensors.torch import save_file

    path, at = tmp_path / "distil.safetensors", "transformer.blocks.0.attn1.to_q"
    drawn = torch.Generator().manual_seed(3)
    save_file(
        {f"{at}.lora_A.weight": torch.randn(2, 24, generator=drawn), f"{at}.lora_B.weight": torch.randn(24, 2, generator=drawn)},
        path,
    )  # fmt: skip
    return path


@pytest.fixture
def calls(monkeypatch):
    """How often the denoiser was asked."""
    from diffusers import WanTransformer3DModel

    asked, plain = [], WanTransformer3DModel.forward
    monkeypatch.setattr(
        WanTransformer3DModel, "forward", lambda self, *a, **named: asked.append(1) or plain(self, *a, **named)
    )
    return asked


def made(overrides):
    sheet, *rest = overrides
    result = flows.render_sheet(sheet.removeprefix("sheet="), overrides=[*rest, "server=none"])
    assert not result.failed, result.failed
    return Store.open(next(text for text in overrides if text.startswith("store=")).removeprefix("store="))


DISTILLED = ["lightx2v-4step", "lightx2v-4step-lcm", "fastwan-3step"]


@pytest.mark.parametrize("schedule", DISTILLED)
@pytest.mark.parametrize(
    ("line", "place", "rows"),
    [
        ("guidance=5", "setting guidance: 5 was asked for, and weights for this schedule were distilled with 1", ROWS),
        ("prior.guidance=2", "setting prior.guidance: 2 was asked for", ROWS),
        ("tail=1", "setting tail: 1 re-spaces the steps", ROWS),
        ("seed=1", "s.csv:2, column guidance: 5 was asked for", "identity,prompt,guidance\nfox,a fox runs,5\n"),
        ("seed=1", "s.csv:2, column tail: 1 re-spaces the steps", "identity,prompt,tail\nfox,a fox runs,1\n"),
    ],
)
def test_what_contradicts_the_schedule_is_told_before_anything_runs(told, schedule, line, place, rows):
    with pytest.raises(PlanError) as refused:
        prepare(told(f"schedule={schedule}", line, rows=rows))
    assert place in str(refused.value)
    assert "1 problem in s.csv, nothing was run" in str(refused.value)


def test_what_was_found_best_for_the_model_on_an_ordinary_schedule_does_not_reach_it(told):
    found = ["model.guidance=6", "model.variant_guidance=3", "model.start_sigma=0.83", "model.tail=1"]
    plan = prepare(told("schedule=lightx2v-4step", *found)).plan
    (row,) = plan.variants
    assert (row.conditioning.guidance, row.prior.conditioning.guidance) == (1.0, 1.0)
    # Sigma .833 lies after its second step: two of its own four are left.
    assert (row.way.start_step, row.way.tail, row.steps) == (1, "exact", 2)


@pytest.mark.process
@pytest.mark.parametrize(
    ("schedule", "steps"), [("lightx2v-4step", 4), ("lightx2v-4step-lcm", 4), ("fastwan-3step", 3)]
)
def test_each_step_asks_the_model_once(told, calls, schedule, steps):
    store = made(told(f"schedule={schedule}", "start_step=0"))
    assert len(calls) == steps + steps - 1
    (row,) = (row for row in store.manifest().to_pylist() if row["kind"] == "variants")
    assert json.loads(row["extra"])["guidance"] == 1.0


@pytest.mark.process
@pytest.mark.parametrize("schedule", ["lightx2v-4step", "fastwan-3step"])
def test_told_the_same_it_ends_in_the_same_bits(told, schedule):
    store = made(told(f"schedule={schedule}", "start_step=0", rows="identity,prompt,base_prompt\nfox,a fox,a fox\n"))
    (variant,), (prior,) = (store.known(kind) for kind in ("variants", "priors"))
    last = max(store.commit_of("priors", prior).steps)
    recorded, _ = store.read_tensors(("priors", prior), f"step_{last:04}.safetensors")
    resumed, _ = store.read_tensors(("variants", variant), "latents.safetensors")
    assert resumed["latents"].equal(recorded["latents"])


@pytest.mark.process
def test_a_lora_of_the_model_is_worn_by_priors_and_variants(told, lora, tiny_folder):
    """The same bits as an engine that is told of it by hand, and other bits and keys than without."""
    from prior_engine import Conditioning, Engine, Identity, Lora, ModelSpec
    from tasks.settings import ScheduleSettings

    schedule = ["schedule=lightx2v-4step", "start_step=1"]
    store = made(told(*schedule, f"model.loras={lora}:0.5"))
    (prior,), (variant,) = (store.known(kind) for kind in ("priors", "variants"))
    engine = Engine(ModelSpec(source=str(tiny_folder), device="cpu"))
    worn = (Lora.open(lora, weight=0.5),)
    walk = ScheduleSettings(
        scheduler="FlowMatchEulerDiscreteScheduler", grid="explicit", sigmas=(1.0, 0.75, 0.5, 0.25)
    ).for_engine
    identity = Identity(prompt="a fox", height=32, width=32, frames=5)
    recorded = list(engine.record(identity, Conditioning(prompt="a fox", guidance=1.0, loras=worn), walk))
    resumed = engine.resume(recorded[1], identity, Conditioning(prompt="a fox runs", guidance=1.0, loras=worn), walk)
    kept, _ = store.read_tensors(("priors", prior), "step_0003.safetensors")
    assert kept["latents"].equal(recorded[-1].latents)
    latents, _ = store.read_tensors(("variants", variant), "latents.safetensors")
    assert latents["latents"].equal(resumed.latents.latents)
    bare = prepare(told(*schedule)).plan
    assert {bare.variants[0].key, bare.priors[0].key}.isdisjoint({variant, prior})


def test_a_row_that_wears_more_than_its_prior_is_told(told, lora):
    rows = f"identity,prompt,lora\nfox,a fox runs,{lora.name}\nfox,a fox sits,{lora.name}\n"
    (note,) = (note for note in prepare(told(rows=rows)).plan.warnings if "wears" in note)
    assert note.startswith("s.csv:2 and 1 more: wears a LoRA that its prior does not")
    worn = prepare(told(f"model.loras=[{{path: {lora}, weight: 0.8, expert: high}}]", rows=rows)).plan
    assert [(one.weight, one.expert) for one in worn.variants[0].conditioning.loras] == [(0.8, "high"), (1.0, "both")]
    assert [one.weight for one in worn.priors[0].conditioning.loras] == [0.8]


def test_all_loras_of_the_model_that_cannot_be_worn_are_told_at_once(told, tmp_path):
    (tmp_path / "text.safetensors").write_text("none")
    with pytest.raises(PlanError) as refused:
        prepare(
            told(
                f"model.loras={tmp_path / 'gone.safetensors'};{tmp_path / 'text.safetensors'};s3://bucket/x.safetensors"
            )
        )
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["setting model.loras"] * 3
    told_of = ["No such file", "not a safetensors file", "fetch it first"]
    assert all(words in line for words, line in zip(told_of, lines, strict=True)), lines


def test_a_lora_of_a_hub_is_fetched_where_that_is_allowed_and_stays_named_so_at_night(
    told, lora, tmp_path, monkeypatch
):
    from flows.on_prefect.nightly import settled_overrides

    named = "lightx2v/Loras:rank64.safetensors"
    files = {"rank64.safetensors": lora.read_bytes(), "other.safetensors": b"other"}
    with stand_in_hub({"lightx2v/Loras": files}, monkeypatch, tmp_path / "cache") as fetched:
        with pytest.raises(
            PlanError, match=r"setting model\.loras: .*'lightx2v/Loras' .*offline is set; download it first"
        ):
            prepare(told(f"model.loras={named}"))
        with pytest.raises(PlanError, match=r"names 2 files, and a LoRA is one; name it whole"):
            prepare(told("model.loras=lightx2v/Loras:*.safetensors", "model.offline=false"))
        fetched.clear()
        ours = prepare(told(f"model.loras={named}:0.5", "model.offline=false")).plan
    theirs = prepare(told(f"model.loras={lora}:0.5")).plan
    # A LoRA is named by its bytes, wherever they came from.
    assert [row.key for row in ours.variants] == [row.key for row in theirs.variants]
    (line, _) = settled_overrides([f"model.loras={named}:0.5"])
    assert f'path:"{named}"' in line


def test_what_a_study_found_belongs_to_what_the_model_wore(told, lora):
    from flows.graph.study import prepare_study

    names = {
        prepare_study(told(*TINY[3:], *more)).name
        for more in ([], [f"model.loras={lora}"], [f"model.loras={lora}:0.5"])
    }
    assert len(names) == 3


def test_a_schedule_of_the_night_names_the_lora_by_its_whole_path(told, lora, monkeypatch):
    from flows.on_prefect.nightly import settled_overrides

    monkeypatch.chdir(lora.parent)
    (line, _) = settled_overrides([f"model.loras={lora.name}:0.5"])
    from flows.compose import compose_settings

    (worn,) = compose_settings([line]).model.loras
    assert (worn.path, worn.weight) == (str(lora), 0.5)


@pytest.mark.parametrize(
    "written", ["[{pth: a.safetensors}]", "[{weight: 0.5}]", "[3]", "[{path: a.safetensors, expert: third}]"]
)
def test_a_lora_that_is_written_wrongly_is_told_what_is_needed(told, written):
    from tasks.errors import SettingsError

    with pytest.raises(
        SettingsError, match=r"model\.loras: is .*a list in brackets, each entry a mapping with path, weight, expert"
    ):
        prepare(told(f"model.loras={written}"))
