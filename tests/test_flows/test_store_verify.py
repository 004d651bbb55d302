"""`store.verify=full`: a run that counts only on right digests."""

import pytest

pytestmark = pytest.mark.process


def test_changed_bytes_are_made_again_where_digests_are_compared(bench):
    bench.write_sheet(["fox"], ["turns left", "turns right"])
    assert bench.run("run", "server=none").returncode == 0
    before = bench.latents()
    video = next((bench.folder / "store" / "variants").glob("*/*/*/video.mp4"))
    content = video.read_bytes()
    video.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "Nothing to do" in bench.run("run", "server=none").stdout
    full = bench.run("run", "server=none", "store.verify=full")
    assert full.returncode == 0, full.stderr
    assert "1 variants made, 1 already there" in full.stdout
    assert "video.mp4 does not have the committed sha256" in full.stderr
    assert bench.latents() == before
    assert bench.store().verify().ok
