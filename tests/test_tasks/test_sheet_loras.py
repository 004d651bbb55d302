"""LoRA files that a sheet names: what they are is found when the sheet is planned, and told with the line."""

import json

import pytest

from flows.prepare import prepare
from tasks.errors import PlanError


def tensors(*names):
    """A safetensors file with one float under each name."""
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * index, 4 * index + 4]}
        for index, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * len(names))


STYLE = tensors("transformer.blocks.0.attn1.to_q.lora_A.weight", "transformer.blocks.0.attn1.to_q.lora_B.weight")
WRONG = {
    "text": (b"not what it says", "cannot be read: it is not a safetensors file; give one"),
    "empty": (b"", "cannot be read: it is not a safetensors file; give one"),
    "pickle": (b"\x80\x04\x95" + bytes(64), "cannot be read: it is not a safetensors file; give one"),
    "list": (
        (2).to_bytes(8, "little") + b"[]",
        "cannot be read: its header is not that of a safetensors file; give one",
    ),
    "deep": (
        (20_000).to_bytes(8, "little") + b"[" * 20_000,
        "cannot be read: its header is not that of a safetensors file; give one",
    ),
    "cut off": (STYLE[:-1], "cannot be read: it is cut off; is the download whole?"),
    "a model": (
        tensors("blocks.0.weight"),
        "holds no LoRA weights, whose names have 'lora' in them; it holds names like",
    ),
    "nothing": (tensors(), "holds no LoRA weights, whose names have 'lora' in them; it holds nothing"),
}


@pytest.fixture
def planned(tmp_path):
    def plan(named):
        (tmp_path / "s.csv").write_text(f"identity,prompt,lora\nfox,runs,\nfox,sits,{named}\n")
        return prepare([f"sheet={tmp_path / 's.csv'}", "model=demo", f"store={tmp_path / 'store'}"]).plan

    return plan


def test_a_good_one_is_in_the_plan_with_its_weight(tmp_path, planned):
    (tmp_path / "style.safetensors").write_bytes(STYLE)
    (lora,) = planned("style.safetensors:0.5").variants[1].conditioning.loras
    assert (lora.path, lora.weight) == (str(tmp_path / "style.safetensors"), 0.5)


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_none_is_told_with_its_line(what, tmp_path, planned):
    data, said = WRONG[what]
    (tmp_path / "style.safetensors").write_bytes(data)
    with pytest.raises(PlanError) as refused:
        planned("style.safetensors")
    assert "1 problem in s.csv, nothing was run:\n  s.csv:3, column lora: the " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("absent.safetensors", "No such file"),
        ("../absent.safetensors", "outside"),
        ("zip::style.safetensors", "joins file systems"),
        ("memory://loras/style.safetensors", "is outside what the sheet may reach"),
        (".", "it is not a plain file"),
    ],
)
def test_one_that_cannot_be_had_is_told_with_its_line(named, said, planned):
    with pytest.raises(PlanError, match=rf"s\.csv:3, column lora: .*{said}"):
        planned(named)
