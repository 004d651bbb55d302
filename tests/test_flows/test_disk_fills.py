"""A disk that fills in the midst of a batch: it ends there, loses nothing, and goes on when there is room. On a real, small disk."""

import subprocess

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]
ROWS = 60


@pytest.fixture
def store_disk(bench):
    """The bench's store on a disk of its own, of one megabyte."""
    place = bench.folder / "store"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT PROVEN HERE: no right to mount a disk ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_batch_that_fills_the_disk_ends_there_and_goes_on_later(bench, store_disk):
    bench.write_sheet(["fox"], [f"does thing {number}" for number in range(ROWS)])
    ended = bench.run("run", "server=none")
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    # Each row that is tried costs its steps on the device: only those that ran when the first one failed may fail too.
    assert 1 <= said.count("Failed: ") <= 3, said
    assert "rows left: what ended the last one would end all others too. Continue with: headstart run" in said
    made = bench.store().known("variants")
    assert 1 <= len(made) < ROWS
    subprocess.run(["mount", "-o", "remount,size=200m", str(store_disk)], check=True)
    again = bench.run("run", "server=none")
    assert again.returncode == 0, again.stdout + again.stderr
    assert made < bench.store().known("variants")
    assert len(bench.store().known("variants")) == ROWS
    assert bench.store().verify().ok
