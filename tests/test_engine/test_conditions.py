"""What is encoded once is reused, and what is not needed is not in memory."""

from dataclasses import replace

import pytest
import torch
from engine_cases import ALL_KINDS, OWN, identity, own_schedule, picture, told

from prior_engine import Conditioning, Conditions, Embedding, Engine, ModelSpec, Picture, RunOptions, Schedule

ENCODERS = ("text_encoder", "image_encoder", "vae_encoder")


@ALL_KINDS
def test_a_variant_needs_no_encoder_in_memory(kind, tiny):
    with_all = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    schedule = own_schedule(kind)
    prior = list(with_all.record(identity(kind), told(kind), schedule))
    embeddings = with_all.encode([told(kind, "a blue ball")])
    conditions = with_all.conditions(identity(kind))
    expected = with_all.resume(prior[1], identity(kind), told(kind, "a blue ball"), schedule)

    bare = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    assert bare._components.pipe.vae.encoder is not None
    bare.free("vae_encoder")
    embeddings = {texts: Embedding.from_parts(one.tensors(), one.metadata()) for texts, one in embeddings.items()}
    conditions = Conditions.from_parts(conditions.tensors(), conditions.metadata())
    variant = bare.resume(
        prior[1],
        identity(kind),
        told(kind, "a blue ball"),
        schedule,
        options=RunOptions(embeddings=embeddings, conditions=conditions),
    )
    assert torch.equal(variant.latents.latents, expected.latents.latents)
    assert not any(bare.has(name) for name in ENCODERS)


@pytest.mark.parametrize("kind", ["wan-i2v", "wan-i2v-two-experts", "wan-flf2v", "wan-vace", "wan-ti2v-image"])
def test_conditions_computed_beforehand_are_those_that_a_run_uses(kind, tiny):
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    conditions = engine.conditions(identity(kind))
    assert conditions.entries
    engine._components.memo.misses = 0
    engine.scratch(identity(kind), told(kind), OWN, options=RunOptions(conditions=conditions))
    assert engine._components.memo.misses == 0


def test_pictures_are_encoded_once_for_all_variants_and_anew_for_another_picture(tiny):
    engine = Engine(ModelSpec(source=str(tiny("wan-i2v")), device="cpu"))
    memo = engine._components.memo
    prior = list(engine.record(identity("wan-i2v"), told("wan-i2v"), OWN))
    assert memo.misses == 2  # CLIP and VAE
    for prompt in ("a blue ball", "a green cone"):
        engine.resume(prior[1], identity("wan-i2v"), told("wan-i2v", prompt), OWN)
    assert memo.misses == 2
    engine.scratch(replace(identity("wan-i2v"), image=Picture.open(picture(5))), told("wan-i2v"), OWN)
    assert memo.misses == 4


def test_the_memory_of_pictures_is_bounded_but_holds_a_whole_identity():
    from prior_engine.loaded.encoders import Memo

    memo, cpu = Memo(), torch.device("cpu")
    for index in range(40):
        memo.watch()
        memo.through("vae", torch.tensor([float(index)]), cpu, lambda: torch.zeros(1))
    assert len(memo.entries) == 16
    seen = memo.watch()
    for index in range(100, 130):
        memo.through("vae", torch.tensor([float(index)]), cpu, lambda: torch.zeros(1))
    assert len(memo.taken(seen).entries) == 30


def test_each_distinct_text_is_encoded_once(tiny, monkeypatch):
    from prior_engine.loaded import calls as rules

    seen = []
    plain = rules.encode_text
    monkeypatch.setattr(rules, "encode_text", lambda *args: (seen.append(args[2:]), plain(*args))[1])
    engine = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu"))
    asked = [told("wan-t2v", prompt) for prompt in ("a", "b", "a")]
    embeddings = engine.encode(asked)
    assert sorted(seen) == [("a", 32), ("b", 32), ("blurred", 32)]
    assert set(embeddings) == {one.texts for one in asked}
    engine.free("text_encoder")
    engine.encode(asked)
    assert len(seen) == 3
    assert not engine.has("text_encoder")


def test_a_text_is_embedded_the_same_whatever_is_embedded_beside_it(tiny):
    alone = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")).encode([told("wan-t2v", "b")])
    among = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")).encode(
        [told("wan-t2v", "a much longer prompt"), told("wan-t2v", "b")]
    )
    texts = told("wan-t2v", "b").texts
    assert torch.equal(alone[texts].prompt["prompt_embeds"], among[texts].prompt["prompt_embeds"])


def test_an_embedding_is_stored_without_its_padding(engine):
    one = engine("wan-t2v").encode([Conditioning(prompt="a cat")])[Conditioning(prompt="a cat").texts]
    whole, stored = one.prompt["prompt_embeds"], one.tensors()["prompt.prompt_embeds"]
    assert whole.shape[1] == 512
    assert stored.shape[1] < 20
    again = Embedding.from_parts(one.tensors(), one.metadata())
    assert torch.equal(again.prompt["prompt_embeds"], whole)
    assert torch.equal(again.negative["prompt_embeds"], one.negative["prompt_embeds"])
    assert again.recipe == one.recipe


CHANGES = {
    "prompt": lambda: told("wan-t2v", "another"),
    "negative_prompt": lambda: told("wan-t2v", negative_prompt="another"),
    "max_sequence_length": lambda: told("wan-t2v", max_sequence_length=64),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_embedding_recipe_tells_texts_and_length(name, engine):
    was = engine("wan-t2v").embedding_recipe(told("wan-t2v"))
    now = engine("wan-t2v").embedding_recipe(CHANGES[name]())
    assert {field for field in was if was[field] != now[field]} == {name}


def test_the_embedding_recipe_tells_encoder_and_dtype_and_nothing_of_guidance(engine):
    recipe = engine("wan-t2v").embedding_recipe(told("wan-t2v"))
    assert recipe == engine("wan-t2v").embedding_recipe(told("wan-t2v", guidance=1.0))
    in_bf16 = engine("wan-t2v", "bfloat16").embedding_recipe(told("wan-t2v"))
    assert {field for field in recipe if recipe[field] != in_bf16[field]} == {"dtype"}
    other = engine("wan-vace").embedding_recipe(told("wan-vace"))
    assert recipe["text_encoder"] != other["text_encoder"]


def test_wan_prompts_are_keyed_as_the_encoder_sees_them(engine):
    curly = engine("wan-t2v").embedding_recipe(told("wan-t2v", "the  \u201cred\u201d   cube &amp; ball\n"))
    assert curly["prompt"] == 'the "red" cube & ball'
    plain = engine("ltx").embedding_recipe(told("ltx", "the  \u201cred\u201d"))
    assert plain["prompt"] == "the  \u201cred\u201d"


def test_the_cleaned_prompt_is_the_pipelines_own():
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    from prior_engine.requests.conditioning import clean_prompt

    for text in (
        "a \u201cb\u201d\n c",
        "ﬁre &amp;amp; ice",
        "  x\t\ty  ",
        "\u00c3\u00a9t\u00c3\u00a9",
        "\u732b \u3000 \u72ac",
    ):
        assert clean_prompt(text) == prompt_clean(text)


@pytest.mark.parametrize("kind", ["wan-t2v-two-experts", "wan-i2v-two-experts"])
def test_the_high_noise_expert_is_never_loaded_past_the_boundary(kind, tiny):
    recorder = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    schedule = Schedule(num_inference_steps=10)
    prior = list(recorder.record(identity(kind), told(kind), schedule))
    boundary = recorder.info.boundary_ratio * 1000
    last_high = max(one.step for one in prior if one.timestep >= boundary)
    assert 0 < last_high < 8

    bare = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    variant = bare.resume(prior[last_high], identity(kind), told(kind), schedule)
    assert torch.equal(variant.latents.latents, prior[-1].latents)
    assert (bare.has("transformer"), bare.has("transformer_2")) == (False, True)

    both = bare.resume(prior[last_high - 1], identity(kind), told(kind), schedule)
    assert torch.equal(both.latents.latents, prior[-1].latents)
    assert bare.has("transformer")


def test_guidance_of_the_second_expert_counts(engine):
    one = engine("wan-t2v-two-experts")
    schedule = Schedule(num_inference_steps=4)
    runs = [
        one.scratch(identity("wan-t2v"), told("wan-t2v", guidance_2=second), schedule).latents.latents
        for second in (None, 3.0, 1.5)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_what_is_stored_in_another_format_is_refused():
    from prior_engine.errors import SnapshotError

    with pytest.raises(SnapshotError, match="the embedding has format None"):
        Embedding.from_parts({}, {})
    with pytest.raises(SnapshotError, match="the conditions have format 'x'"):
        Conditions.from_parts({}, {"format": "x"})


def test_embeddings_of_different_lengths_do_not_share_a_batch(engine):
    from prior_engine.errors import RequestError

    one, schedule = engine("wan-t2v"), Schedule(num_inference_steps=3)
    prior = list(one.record(identity("wan-t2v"), told("wan-t2v"), schedule))
    asked = [told("wan-t2v", "a"), told("wan-t2v", "b")]
    mixed = one.encode([asked[0]]) | {
        asked[1].texts: one.encode([told("wan-t2v", "b", max_sequence_length=16)]).popitem()[1]
    }
    with pytest.raises(RequestError, match="the embeddings of a batch have different lengths"):
        one.resume_batch(prior[0], identity("wan-t2v"), asked, schedule, options=RunOptions(embeddings=mixed))
