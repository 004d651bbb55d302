"""Weights from elsewhere, through the settings: planned, checked, run, and told by the doctor."""

from collections import Counter

import original_names
import pytest
from PIL import Image

import flows
from flows.compose import compose_settings
from flows.prepare import prepare
from prior_store import Store
from tasks.errors import PlanError
from tasks.planning.models.check import broken_files
from tests.test_flows.conftest import TINY


@pytest.fixture
def told(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    (tmp_path / "s.csv").write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\n")
    weights = original_names.component(tiny_folder, "transformer", original_names.transformer_name)
    original_names.save_shards(
        {f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}, tmp_path, 2
    )

    def settings(*more):
        return [f"sheet={tmp_path / 's.csv'}", f"model={tiny_folder}", *TINY, f"store={tmp_path / 'store'}", *more]

    return settings


@pytest.mark.process
def test_a_batch_runs_with_shards_of_other_names_and_knows_them_again(told, tmp_path):
    parts = f"model.parts.transformer={tmp_path}/diffusion_pytorch_model-*.safetensors"
    sheet, *rest = told(parts, "server=none")
    first = flows.render_sheet(sheet.removeprefix("sheet="), overrides=rest)
    assert (first.done, first.failed) == (1, ())
    again = flows.render_sheet(sheet.removeprefix("sheet="), overrides=rest)
    assert (again.done, again.cached) == (0, 1)
    # Other bytes are other results, whether they come out alike or not.
    assert {variant.cached for variant in prepare(told()).plan.variants} == {False}
    assert Store.open(tmp_path / "store").verify().ok


def test_a_shard_that_is_missing_is_told_by_plan_and_doctor(told, tmp_path, tiny_folder):
    whole = f"model.parts.transformer={tmp_path}/diffusion_pytorch_model-*.safetensors"
    broken, line = broken_files(compose_settings(told(whole)), str(tiny_folder))
    assert broken == []
    assert "WanPipeline, whole; GiB on the device as it would run: " in line
    (tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PlanError, match="'diffusion_pytorch_model-00002-of-00002.safetensors' is missing"):
        prepare(told(whole))


def test_several_files_can_be_listed(told, tmp_path):
    names = [f"{tmp_path}/diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    listed = prepare(told(f"model.parts.transformer=[{','.join(names)}]")).plan
    pattern = prepare(told(f"model.parts.transformer={tmp_path}/diffusion_pytorch_model-*.safetensors")).plan
    assert [row.key for row in listed.variants] == [row.key for row in pattern.variants]


def test_the_doctor_counts_what_each_part_takes_at_the_precision_of_the_run(tiny_folder, monkeypatch):
    from safetensors import safe_open

    monkeypatch.setattr("prior_engine.models.account.GIB", 1)
    layers = Counter()
    with safe_open(next((tiny_folder / "transformer").glob("*.safetensors")), "np") as file:
        for name in file.keys():  # noqa: SIM118
            layers[name.rpartition(".")[0]] += file.get_tensor(name).size
    count, widest = layers.total(), max(layers.values())
    # Of eight bits one layer at a time is made wide again.
    for told, taken in (
        (["model.dtype=fp32"], 4 * count),
        (["model.dtype=bf16"], 2 * count),
        (["model.dtype=bf16", "accel.quantization=float8_e4m3fn"], count + 2 * widest),
    ):
        _, line = broken_files(compose_settings([f"model={tiny_folder}", *told]), str(tiny_folder))
        assert f"transformer {taken:.2f}" in line


@pytest.fixture
def makers(tmp_path, monkeypatch):
    """`makers(kind)` are the settings of a batch on a tiny folder as Wan's makers publish it, and the folder."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    Image.new("RGB", (32, 32), "red").save(tmp_path / "fox.png")

    def settings(kind):
        plain = original_names.as_wan_builds(kind, tmp_path / "plain")
        folder = original_names.save_original(plain, tmp_path / "original", kind)
        column, cell = (",image", f",{tmp_path / 'fox.png'}") if "i2v" in kind and kind != "wan-ti2v" else ("", "")
        rows = f"identity,prompt,base_prompt{column}\nfox,a fox runs,a fox{cell}\n"
        (tmp_path / "s.csv").write_text(rows)
        return [f"sheet={tmp_path / 's.csv'}", f"model={folder}", *TINY, f"store={tmp_path / 'store'}"], folder

    return settings


@pytest.mark.parametrize(
    ("kind", "pipeline", "parts"),
    [
        ("wan-i2v", "WanImageToVideoPipeline", ["image_encoder"]),
        ("wan-t2v-two-experts", "WanPipeline", ["transformer", "transformer_2"]),
        ("wan-i2v-two-experts", "WanImageToVideoPipeline", ["transformer", "transformer_2"]),
        ("wan-ti2v", "WanPipeline", ["vae"]),
    ],
)
def test_a_folder_of_the_makers_is_planned_and_told_by_the_doctor(kind, pipeline, parts, makers):
    settings, folder = makers(kind)
    plan = prepare(settings).plan
    assert [variant.cached for variant in plan.variants] == [False]
    assert len(plan.priors_to_do) == 1
    broken, line = broken_files(compose_settings(settings), str(folder))
    assert broken == []
    assert f"{pipeline}, whole; GiB on the device as it would run: " in line
    assert all(f"{part} 0." in line for part in parts)


@pytest.mark.process
def test_a_batch_runs_on_image_to_video_as_its_makers_publish_it(makers):
    settings, folder = makers("wan-i2v")
    sheet, *rest = [*settings, "server=none"]
    first = flows.render_sheet(sheet.removeprefix("sheet="), overrides=rest)
    assert (first.done, first.failed) == (1, ())
    again = flows.render_sheet(sheet.removeprefix("sheet="), overrides=rest)
    assert (again.done, again.cached) == (0, 1)
    (folder / f"{original_names.CLIP}.safetensors").rename(folder / f"{original_names.CLIP}.pth")
    with pytest.raises(PlanError, match=f"headstart models convert .*{original_names.CLIP}.pth"):
        prepare(settings)
