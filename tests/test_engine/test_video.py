"""Frames become files as they come; no frame is held that was written."""

import re
import subprocess
import weakref

import imageio_ffmpeg
import numpy as np
import pytest
from engine_cases import OWN, identity, told
from PIL import Image

from prior_engine import Engine, ModelSpec, write_preview, write_video
from prior_engine.errors import RequestError, VideoError

pytestmark = pytest.mark.process  # ffmpeg


def frames(count, height=32, width=48):
    for index in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, : width * (index + 1) // count] = (200, 30, 30)
        yield frame


def read(path):
    """What ffmpeg says of the first stream, and its frames as bytes."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    said = re.search(r"Video: (\w+).*?, (yuv\w+).*?, (\d+)x(\d+).*?, ([\d.]+) fps", done.stderr.decode())
    width, height = int(said[3]), int(said[4])
    size = width * height * 3
    pixels = [done.stdout[start : start + size] for start in range(0, len(done.stdout), size)]
    return {"codec": said[1], "pix_fmt": said[2], "size": (width, height), "fps": float(said[5])}, pixels


@pytest.mark.parametrize("fps", [8, 16, 24])
def test_a_video_has_the_size_length_and_rate_that_were_asked_for(fps, tmp_path):
    path = tmp_path / "v.mp4"
    assert write_video(frames(9), path, fps=fps) == 9
    meta, read_back = read(path)
    assert (meta["size"], meta["fps"], len(read_back)) == ((48, 32), fps, 9)
    assert meta["codec"] == "h264"
    last = np.frombuffer(read_back[-1], np.uint8).reshape(32, 48, 3)
    assert np.abs(last.astype(int) - (200, 30, 30)).mean() < 12


def test_quality_and_pixel_format_are_chosen(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    for quality in (1, 10):
        write_video(iter(noise), tmp_path / f"{quality}.mp4", quality=quality)
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "1.mp4").stat().st_size
    write_video(iter(noise), tmp_path / "full.mp4", pix_fmt="yuv444p")
    assert read(tmp_path / "full.mp4")[0]["pix_fmt"] == "yuv444p"


def test_frames_are_written_as_they_come(tmp_path):
    """While the last frames are made, the first are gone from memory."""
    alive = []

    class Frame(np.ndarray):
        pass

    def made():
        for frame in frames(8):
            view = frame.view(Frame)
            alive.append(weakref.ref(view))
            yield view
            del view
            assert sum(one() is not None for one in alive) <= 2

    write_video(made(), tmp_path / "v.mp4")


def test_decoding_is_streamed_too(engine):
    one = engine("wan-t2v")
    calls = []
    made = one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents
    handle = one._components.pipe.vae.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    stream = one.decode(made)
    next(stream)
    assert len(calls) == 1
    assert len(list(stream)) == 8
    assert len(calls) == 3
    handle.remove()


def test_a_preview_is_the_first_frame(tmp_path):
    first = next(frames(4))
    write_video(frames(4), tmp_path / "v.mp4", preview=tmp_path / "p.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p.png")), first)
    write_preview(first, tmp_path / "q.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "q.png")), first)


def test_what_cannot_be_a_video_is_refused(tmp_path):
    with pytest.raises(VideoError, match="there are no frames to write"):
        write_video(iter(()), tmp_path / "v.mp4")
    with pytest.raises(RequestError, match="quality=11 is outside"):
        write_video(frames(1), tmp_path / "v.mp4", quality=11)
    with pytest.raises(RequestError, match="fps=0 must be above 0"):
        write_video(frames(1), tmp_path / "v.mp4", fps=0)
    with pytest.raises(VideoError, match=r"the video 'v\.mp4' broke off after \d+ frames"):
        write_video(frames(50, 64, 64), tmp_path / "absent" / "v.mp4")


def test_tiles_are_another_result_and_said_so(tiny):
    tiled = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", vae_tiling=True))
    assert tiled.info.describe()["vae_tiling"] is True
    made = tiled.scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents
    assert len(list(tiled.decode(made))) == 9


def test_bare_latents_are_decoded_where_they_tell_their_size(engine):
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents
    assert len(list(engine("wan-t2v").decode(made.latents))) == 9
    flux = engine("flux").scratch(identity("flux"), told("flux"), OWN).latents
    with pytest.raises(RequestError, match="give the snapshot"):
        list(engine("flux").decode(flux.latents))


def test_only_one_sample_is_decoded_at_a_time(engine):
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents
    with pytest.raises(RequestError, match="2 samples were given; decode one at a time"):
        list(engine("wan-t2v").decode(made.latents.repeat(2, 1, 1, 1, 1)))


def test_videos_can_be_decoded_beside_each_other_and_beside_a_run(engine):
    """Frames of two videos are taken in turn, with a whole run between two of them: same pixels as one by one."""
    one = engine("wan-i2v")
    made = [one.scratch(identity("wan-i2v"), told("wan-i2v", prompt), OWN).latents for prompt in ("a", "b")]
    alone = [list(one.decode(latents)) for latents in made]
    streams = [one.decode(latents) for latents in made]
    together = [[], []]
    for index in range(9):
        for side in (0, 1):
            together[side].append(next(streams[side]))
        if index == 3:
            one.conditions(identity("wan-i2v"))
            one.scratch(identity("wan-i2v"), told("wan-i2v"), OWN)
    for side in (0, 1):
        assert np.array_equal(together[side], alone[side])


def test_a_reader_that_never_comes_back_holds_nothing(engine):
    import torch

    one = engine("wan-t2v")
    made = one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents
    abandoned = one.decode(made)
    next(abandoned)
    assert not torch.are_deterministic_algorithms_enabled()
    assert one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents.is_final
