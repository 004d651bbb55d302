"""What can be set is used, or refused: nothing is accepted and quietly ignored."""

import json

import pytest

import flows
from flows.compose import compose_settings
from flows.prepare import prepare
from prior_store import Store
from tasks.errors import PlanError, SettingsError
from tests.test_flows.conftest import TINY


@pytest.fixture
def told(tmp_path, tiny_folder, monkeypatch):
    """The settings of a small batch, with a sheet of the given rows."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))

    def settings(*more, rows="identity,prompt,base_prompt\nfox,a fox runs,a fox\n"):
        (tmp_path / "s.csv").write_text(rows)
        return [f"sheet={tmp_path / 's.csv'}", f"model={tiny_folder}", *TINY, f"store={tmp_path / 'store'}", *more]

    return settings


def made(overrides):
    """Run a batch and give each variant's row and the digest of its latents."""
    sheet, *rest = overrides
    result = flows.render_sheet(sheet.removeprefix("sheet="), overrides=[*rest, "server=none"])
    assert not result.failed, result.failed
    store = Store.open(next(text for text in overrides if text.startswith("store=")).removeprefix("store="))
    keys = {row.key for row in result.results if row.kind == "variant"}
    rows = [row for row in store.manifest().to_pylist() if row["key"] in keys]
    return rows, [store.commit_of("variants", key).files["latents.safetensors"].sha256 for key in keys]


@pytest.mark.process
def test_a_cache_changes_the_variant_under_a_key_of_its_own(told):
    plain_rows, plain = made(told("start_step=0"))
    cached_rows, cached = made(told("start_step=0", "accel.cache=first_block", "accel.cache_options.threshold=0.9"))
    assert {row["key"] for row in plain_rows}.isdisjoint(row["key"] for row in cached_rows)
    assert plain != cached


@pytest.mark.process
def test_history_changes_a_multistep_variant_under_a_key_of_its_own(told):
    _, kept = made(told("schedule=unipc", "schedule.num_inference_steps=4", "start_step=1", "tail=exact"))
    _, fresh = made(
        told("schedule=unipc", "schedule.num_inference_steps=4", "start_step=1", "tail=exact", "history=fresh")
    )
    assert kept != fresh


@pytest.mark.process
def test_explicit_timesteps_are_walked(told):
    grid = ["schedule.grid=explicit", "schedule.timesteps=[1000,750,500,250]"]
    (row,), _ = made(told(*grid, "start_step=1", "tail=exact"))
    assert (row["steps_run"], row["sigma"]) == (2, pytest.approx(5 / 6))


@pytest.mark.process
def test_a_straight_line_is_another_variant_and_needs_no_snapshot_but_the_last(told):
    plain_rows, plain = made(told("start_step=1", "tail=2"))
    rows, line = made(told("prior.keep=[3]", "start_step=1", "tail=2", "start=line"))
    assert rows[0]["parent_key"] == plain_rows[0]["parent_key"]
    assert rows[0]["key"] != plain_rows[0]["key"]
    assert (plain != line, rows[0]["sigma"], rows[0]["steps_run"]) == (True, plain_rows[0]["sigma"], 2)
    assert json.loads(rows[0]["extra"])["start"] == "line"
    assert "start" not in json.loads(plain_rows[0]["extra"])


@pytest.mark.process
def test_a_prior_that_keeps_its_end_alone_serves_the_line(told):
    rows, _ = made(told("prior.keep=[3]", "start_step=1", "tail=2", "start=line"))
    store = Store.open(told()[-1].removeprefix("store="))
    assert sorted(store.commit_of("priors", rows[0]["parent_key"]).steps) == [3]


@pytest.mark.process
def test_steps_are_counted_as_the_solver_walks_them(told):
    heun = ["schedule.scheduler=FlowMatchHeunDiscreteScheduler"]
    overrides = told(*heun, "start_step=4", "tail=exact")
    plan = prepare(overrides).plan
    assert (plan.full_steps, [variant.steps for variant in plan.variants]) == (7, [2])
    assert [variant.steps for variant in prepare(told(*heun, "start_step=4", "tail=2")).plan.variants] == [3]
    rows, _ = made(told(*heun, "start_step=5", "tail=exact"))
    assert [(row["steps_run"], row["steps_full"]) for row in rows] == [(1, 7)]
    # The noise between two evaluations is what the solver says, not the n-th entry of the grid.
    assert 0 < rows[0]["sigma"] < 1
    respaced, _ = made(told(*heun, "start_step=3", "tail=2"))
    assert [row["steps_run"] for row in respaced] == [3]


@pytest.mark.process
def test_the_steps_that_rows_start_from_are_always_kept(told):
    rows, _ = made(told("prior.keep=[0]", "start_step=1", "tail=exact"))
    store = Store.open(told()[-1].removeprefix("store="))
    assert sorted(store.commit_of("priors", rows[0]["parent_key"]).steps) == [0, 1, 3]


@pytest.mark.process
def test_what_lowers_precision_makes_other_priors(told):
    plain_rows, plain = made(told("start_step=0"))
    rows, small = made(told("start_step=0", "accel.quantization=float8_e5m2"))
    assert rows[0]["parent_key"] != plain_rows[0]["parent_key"]
    assert small != plain
    for other in ("vae_tiling", "compiled", "merge_guidance"):
        assert len(prepare(told("start_step=0", f"accel.{other}=true")).plan.priors_to_do) == 1


@pytest.mark.process
def test_where_weights_wait_and_how_kernels_are_chosen_makes_nothing_anew(told):
    made(told("start_step=0", "accel.offload=group"))
    assert prepare(told("start_step=0")).nothing_to_do
    assert prepare(told("start_step=0", "accel.deterministic=false")).nothing_to_do


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["accel.cache_options.threshold=0.1"], r"accel\.cache_options=.* needs accel\.cache"),
        (["accel.cache=pab", "accel.merge_guidance=true"], r"accel\.cache=pab would not tell the two passes"),
        (["accel.compiled=true", "accel.offload=group"], r"accel\.compiled cannot be used with accel\.offload=group"),
        (["accel=8gb", "accel.compiled=true"], r"accel\.compiled cannot be used with accel\.budget=8"),
        (["server=none", "server.database=sqlite:///x"], r"server\.database is for server\.mode=local"),
    ],
)
def test_what_would_be_ignored_is_refused(overrides, message):
    with pytest.raises(SettingsError, match=message):
        compose_settings(overrides)


PARENTS = "id,identity,prompt,base_prompt,parent,start_step\na,fox,runs,a fox,,0\nb,fox,sits,a fox,a,1\n"


@pytest.mark.parametrize(
    ("overrides", "rows", "message"),
    [
        (["accel.cache=mag"], None, r"setting accel\.cache: the cache 'mag' needs the ratios .*headstart calibrate"),
        (["accel.cache=pab", "guidance=3"], None, r"s\.csv:2, setting accel\.cache: .* at guidance 3 it would give"),
        (["accel.cache=first_block"], PARENTS, r"s\.csv:2, setting accel\.cache: a run with a cache cannot keep"),
        (
            ["accel.cache=mag", "accel.cache_options.mag_ratios=[1,1,1,1]", "tail=2"],
            None,
            r"the ratios of the cache 'mag' belong to the prior's own steps",
        ),
        (
            ["schedule.scheduler=FlowMatchHeunDiscreteScheduler", "start=line"],
            None,
            r"setting start: a straight-line start needs a solver of one evaluation a step, .*; set start=snapshot",
        ),
        (
            ["schedule.noise_layout=btchw", "model.pipeline=CogVideoXPipeline"],
            None,
            r"setting schedule: noise_layout='btchw' cannot be used with 'cogvideox': its latents are laid out otherwise",
        ),
        (["schedule.denoising_strength=0.5"], None, r"1 problem .*\n  setting schedule: denoising_strength=0\.5 needs"),
    ],
)
def test_what_cannot_be_run_is_told_by_the_plan(told, overrides, rows, message):
    more = {} if rows is None else {"rows": rows}
    with pytest.raises(PlanError, match=message):
        prepare(told(*overrides, **more))


def test_the_layout_of_the_noise_is_in_keys_where_it_is_not_the_usual_one(told):
    usual, said, other = (
        prepare(told(*more)).plan for more in ((), ("schedule.noise_layout=bcthw",), ("schedule.noise_layout=btchw",))
    )
    assert [row.key for row in usual.variants] == [row.key for row in said.variants]
    assert "noise_layout" not in usual.priors[0].recipe["schedule"]
    assert other.priors[0].recipe["schedule"] == {**usual.priors[0].recipe["schedule"], "noise_layout": "btchw"}
    assert other.priors[0].key != usual.priors[0].key
    assert other.variants[0].key != usual.variants[0].key
