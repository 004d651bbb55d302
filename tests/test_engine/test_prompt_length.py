"""Prompts that a text encoder would cut off are counted without it."""

import subprocess
import sys

import pytest

from prior_engine import ModelSpec, PromptLength, inspect_model

DEMO = "demo/weights/t2v"


@pytest.fixture(scope="module")
def demo(pytestconfig):
    return ModelSpec(source=str(pytestconfig.rootpath / DEMO), device="cpu")


def test_the_count_is_that_of_the_models_own_tokenizer(demo):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(f"{demo.source}/tokenizer")
    lengths = PromptLength(inspect_model(demo), 3)
    for text in (
        "a red circle moves left and then up",
        "  spaces   do\nnot  count  twice ",
        "&amp; wörds it never saw 狐狸",
    ):
        assert lengths.over(text) == len(tokenizer(" ".join(text.split())).input_ids)


def test_the_limit_itself_still_fits(demo):
    lengths = PromptLength(inspect_model(demo), 9)
    assert lengths.over("a red circle moves left and then up") is None  # eight words and the end mark
    assert lengths.over("a red circle moves left and then up left") == 10


def test_a_model_whose_tokens_cannot_be_counted_says_so(tiny):
    lengths = PromptLength(inspect_model(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")))
    assert lengths.unknown == "the model has no tokenizer/tokenizer.json to count tokens with"
    assert lengths.over("word " * 5000) is None


@pytest.mark.process
def test_counting_needs_neither_torch_nor_transformers(demo):
    script = (
        "import sys\n"
        "from prior_engine import ModelSpec, PromptLength, inspect_model\n"
        f"lengths = PromptLength(inspect_model(ModelSpec(source={demo.source!r}, device='cpu')), 3)\n"
        "assert lengths.over('a red circle moves left') == 6\n"
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=demo.source.removesuffix(DEMO))
