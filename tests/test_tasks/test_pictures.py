"""A sheet reaches what it may reach, and nothing else."""

import io
import os
import struct
import zipfile
import zlib

import pytest
from PIL import Image

from flows.prepare import prepare
from tasks.errors import SheetError
from tasks.settings import SheetSettings
from tasks.sheets.load import load_sheet
from tasks.sheets.media.pictures import PictureError, open_picture, resolve_picture


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "sheets"
    inside.mkdir()
    Image.new("RGB", (8, 8), "red").save(inside / "fox.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    return inside


def test_a_picture_below_the_sheet_is_taken(folder):
    location = resolve_picture("fox.png", str(folder), SheetSettings())
    assert open_picture(location, 1000).width == 8


def test_a_picture_is_decoded_once(folder, monkeypatch, tmp_path):
    from PIL.PngImagePlugin import PngImageFile

    decoded, load = [], PngImageFile.load_prepare
    monkeypatch.setattr(PngImageFile, "load_prepare", lambda image: (decoded.append(image), load(image)))
    (folder / "s.csv").write_text("identity,prompt,image\nfox,runs,fox.png\n")
    (prior,) = prepare([f"sheet={folder / 's.csv'}", "model=demo", f"store={tmp_path / 'store'}"]).plan.priors
    assert (prior.identity.image.width, len(decoded)) == (8, 1)


@pytest.mark.parametrize("named", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_a_path_out_of_the_folder_is_refused(folder, named):
    with pytest.raises(PictureError, match="outside of|leads to"):
        resolve_picture(named, str(folder), SheetSettings())


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(PictureError, match="outside"):
        resolve_picture("link.png", str(folder), SheetSettings())


def test_an_allowed_folder_is_reached(folder):
    settings = SheetSettings(allow_roots=(str(folder.parent),))
    assert resolve_picture("../secret.png", str(folder), settings).endswith("secret.png")


@pytest.mark.parametrize("named", ["http://127.0.0.1/x.png", "https://example.org/x.png"])
def test_the_web_is_closed_until_it_is_opened(folder, named):
    with pytest.raises(PictureError, match="sheet.allow_http=true"):
        resolve_picture(named, str(folder), SheetSettings())
    assert resolve_picture(named, str(folder), SheetSettings(allow_http=True)) == named


@pytest.mark.parametrize(
    "named", ["file:///etc/passwd", "s3://other/x.png", "memory://x.png", "simplecache::file:///etc/passwd"]
)
def test_other_protocols_need_their_folder_allowed(folder, named):
    with pytest.raises(PictureError):
        open_picture(resolve_picture(named, str(folder), SheetSettings()), 1000)


CHAINS = ["zip::fox.png", "simplecache::fox.png", "zip://fox.png::a.zip", "zip://fox.png::/etc/a.zip", "a.zip::fox.png"]


@pytest.mark.parametrize("root", ["", "memory://sheets"])
@pytest.mark.parametrize("named", CHAINS)
def test_file_systems_are_not_joined(folder, named, root):
    settings = SheetSettings(allow_roots=("zip://", "zip://fox.png"))
    with pytest.raises(PictureError, match="joins file systems with '::', which a sheet may not do; give the file"):
        resolve_picture(named, root or str(folder), settings)


def test_a_sheet_in_an_archive_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("s.csv", "identity,prompt\nfox,runs\n")
    with pytest.raises(SheetError, match="joins file systems with '::', which is not read; give the sheet itself"):
        load_sheet(SheetSettings(path=f"zip://s.csv::{tmp_path / 'a.zip'}", format="csv"))


def test_two_colons_in_the_name_of_a_local_sheet_are_just_that(tmp_path):
    (tmp_path / "a::b.csv").write_text("identity,prompt\nfox,runs\n")
    assert load_sheet(SheetSettings(path=str(tmp_path / "a::b.csv"))).name == "a::b.csv"


def test_a_url_of_this_machine_is_a_path(folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    for settings in (SheetSettings(), SheetSettings(allow_roots=(f"file://{folder}",))):
        assert resolve_picture(f"file://{folder}/fox.png", str(folder), settings) == str(folder / "fox.png")
        for named in (f"file://{folder}/link.png", f"local://{folder}/../secret.png"):
            with pytest.raises(PictureError, match="outside"):
                resolve_picture(named, str(folder), settings)
    assert resolve_picture("fox.png", f"file://{folder}", SheetSettings()) == str(folder / "fox.png")
    with pytest.raises(PictureError, match="outside"):
        resolve_picture("link.png", f"file://{folder}", SheetSettings())


def test_a_file_that_becomes_a_link_after_the_check_is_not_opened(folder):
    location = resolve_picture("fox.png", str(folder), SheetSettings())
    (folder / "fox.png").unlink()
    (folder / "fox.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(PictureError, match="cannot be read"):
        open_picture(location, 1000)


def test_a_folder_that_becomes_a_link_after_the_check_is_not_followed(folder):
    (folder / "inner").mkdir()
    (folder / "fox.png").rename(folder / "inner" / "secret.png")
    location = resolve_picture("inner/secret.png", str(folder), SheetSettings())
    (folder / "inner").rename(folder / "was")
    (folder / "inner").symlink_to(folder.parent)
    with pytest.raises(PictureError, match="cannot be read: it leads elsewhere than a moment ago"):
        open_picture(location, 1000)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(PictureError, match="cannot be read: it is not a plain file"):
        open_picture(resolve_picture("pipe.png", str(folder), SheetSettings()), 1000)


def test_an_allowed_prefix_does_not_reach_beside_it(folder):
    settings = SheetSettings(allow_roots=("s3://mine/pictures",))
    assert resolve_picture("s3://mine/pictures/a.png", str(folder), settings)
    for named in ("s3://mine/pictures-of-others/a.png", "s3://mine/pictures/../a.png"):
        with pytest.raises(PictureError):
            resolve_picture(named, str(folder), settings)


def test_a_picture_that_is_none_is_refused(folder):
    (folder / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match="is not a picture that can be decoded"):
        open_picture(str(folder / "text.png"), 1000)


def test_half_a_picture_is_refused(folder):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    (folder / "half.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(PictureError, match=r"half\.png': the picture cannot be decoded: .*; give it whole"):
        open_picture(str(folder / "half.png"), 100_000)


def test_a_bomb_is_refused_before_it_is_decoded(folder):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    )
    with pytest.raises(PictureError, match="pixels"):
        open_picture(str(folder / "bomb.png"), 40_000_000)
