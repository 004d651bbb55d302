"""Equal tensors with equal metadata are equal bytes, in every process: commits compare results by their digests."""

import subprocess
import sys

import pytest

CODE = """
import hashlib, torch
from prior_store.objects.tensors import decode, encode
notes = {name: name * 2 for name in "zebra apple mango kiwi".split()}
content = encode({"b": torch.arange(3), "a": torch.ones(2, 2, dtype=torch.bfloat16)}, notes)
values, metadata = decode(content, "here")
assert metadata == notes and values["b"].tolist() == [0, 1, 2] and values["a"].dtype == torch.bfloat16
print(hashlib.sha256(content).hexdigest())
"""


@pytest.mark.process
def test_three_processes_write_the_same_bytes():
    digests = {
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": str(seed)}
        ).stdout
        for seed in range(3)
    }
    assert len(digests) == 1
