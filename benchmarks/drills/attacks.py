"""What somebody might try on purpose: sheets, models, settings, requests from elsewhere. The lists are those of the tests."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.drills.stage import CANARY, ROOT, Stage, Tally, leaks

_SHADOW = "/etc/hostname"


def hostile_sheets(stage: Stage, tally: Tally) -> None:
    """Small sheets that ask for gigabytes or hours: planned or refused within 5 s and 500 MB."""
    from tests.hostile_sheets import MEGABYTES, SECONDS, SHEETS, SLACK

    (stage.folder / "sheets").mkdir()
    command = [sys.executable, str(ROOT / "tests" / "hostile_sheets.py"), str(stage.folder / "sheets")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=1200).stdout
    for name, came in map(json.loads, said.splitlines()):
        tally.times += 1
        if (
            came is None
            or came[0] > SECONDS * SLACK
            or came[1] > MEGABYTES
            or not came[2].startswith(("refused: ", *"0123456789"))
        ):
            tally.failed.append(f"{name}: {came}")
    if tally.times != len(SHEETS):
        tally.failed.append(f"{tally.times} of {len(SHEETS)} sheets were tried")


def escapes(stage: Stage, tally: Tally) -> None:
    """Pictures that lie elsewhere: nothing outside of the sheet's folder is read."""
    outside = stage.folder / "outside"
    outside.mkdir()
    from PIL import Image

    Image.new("RGB", (32, 32)).save(outside / "x.png")
    inside = stage.folder / "in"
    inside.mkdir()
    (inside / "link.png").symlink_to(outside / "x.png")
    (inside / "folder").symlink_to(outside)
    names = [
        "../outside/x.png", str(outside / "x.png"), "link.png", "folder/x.png", f"file://{outside}/x.png", f"local://{outside}/x.png",
        "zip://x.png::../outside/x.zip", f"simplecache::file://{outside}/x.png", f"filecache::{outside}/x.png", "./../outside/x.png",
        "in/../../outside/x.png", "http://127.0.0.1:9/x.png", "s3://elsewhere/x.png", "memory://x.png", "/proc/self/environ", _SHADOW,
    ]  # fmt: skip
    for name in names:
        (inside / "sheet.csv").write_text(f"identity,prompt,image\nfox,runs,{name}\n")
        code, said = stage.run("plan", "sheet=in/sheet.csv", "model=demo", "store=store", "server=none", settings=False)
        tally.times += 1
        tally.escaped += code != 2
        if "Traceback" in said:
            tally.failed.append(f"{name}: {said[-300:]}")


def secrets(stage: Stage, tally: Tally) -> None:
    """A canary in every place where somebody might put a secret."""
    options = "store.storage_options"
    places = [
        f"{options}.key={CANARY}", f"{options}.secret={CANARY}", f"{options}.client_kwargs.aws_secret_access_key={CANARY}",
        f"{options}={{client_kwargs: {{aws_secret_access_key: {CANARY}}}}}", f"{options}.connection_string={CANARY}",
        f"{options}.account_key={CANARY}", f"{options}.credential={CANARY}", f"{options}.endpoint=http://u:{CANARY}@h",
        f"store=s3://user:{CANARY}@bucket/x", f"sheet=https://user:{CANARY}@127.0.0.1:9/s.csv",
        f"sheet=http://127.0.0.1:9/s.csv?X-Amz-Signature={CANARY}", f"model=https://u:{CANARY}@host/model",
        f"server.database=postgresql+asyncpg://prefect:{CANARY}@127.0.0.1:9/prefect",
    ]  # fmt: skip
    for place in places:
        for verb in ("run", "plan", "config"):
            more = [place] if verb == "config" else [place, "-q"] if verb == "run" else [place]
            _, said = stage.run(verb, *more, settings=verb != "config")
            tally.times += 1
            tally.leaked += CANARY in said
    # What the process was started with stands in what the drill itself keeps of it.
    tally.leaked += leaks(stage.folder)


def strangers(stage: Stage, tally: Tally) -> None:
    """Requests from foreign pages, under foreign names, without the password, without the token."""
    from benchmarks.drills.servers import served
    from flows.on_prefect import server
    from tests.test_server.test_door import READS, WRITES

    with served(stage):
        found = server.running()
        if found is None:
            tally.failed.append("no server")
            return
        own = f"127.0.0.1:{found.port}"
        password = found.entrance.partition("#")[2]
        let_in = {"Authorization": f"Basic {password}"}

        def tried(method: str, path: str, body: object, refused: Callable[[int], bool], **headers: str) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", found.port, timeout=30)
            connection.request(
                method, path, json.dumps(body), {"Host": own, "Content-Type": "application/json", **headers}
            )
            status = connection.getresponse().status
            connection.close()
            tally.times += 1
            tally.escaped += not refused(status)

        for method, path, body in [*WRITES, *(("GET", path, None) for path in READS)]:
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"http://{own}.evil.example"):
                tried(method, path, body, lambda status: status == 403, Origin=origin, **let_in)
            for host in ("evil.example", "127.0.0.1", f"{own}.evil.example"):
                tried(method, path, body, lambda status: status == 421, Host=host, **let_in)
            tried(method, path, body, lambda status: status in {401, 403, 405})
        for method, path, body in WRITES:
            tried(method, path, body, lambda status: status == 403, **let_in)


def forms(stage: Stage, tally: Tally) -> None:
    """What a deployment's form is told and must not do."""
    from flows.on_prefect.door.bounds import Bounds

    bounds = Bounds(roots=(str(stage.folder), "s3://bucket/a"))
    places = [_SHADOW, "/", f"{stage.folder}/../x", f"{stage.folder}x", "file:///etc", "s3://bucket/ab", "s3://bucket/a/../b",
              "s3://bucket/a/%2e%2e/b", "zip::x", f"simplecache::{stage.folder}", "-", "https://evil.example/x"]  # fmt: skip
    for key in (
        "sheet",
        "sheet.path",
        "sheet.identities",
        "store",
        "store.url",
        "model",
        "model.source",
        "+sheet",
        "~store",
    ):
        for place in places:
            tally.times += 1
            tally.escaped += not bounds.problems([f"{key}={place}"])


def models(stage: Stage, tally: Tally) -> None:
    """Model folders that name code."""
    import shutil

    from tests.test_engine.test_trusted import CLASSES

    for number, (name, value) in enumerate(CLASSES):
        folder = Path(shutil.copytree(stage.model, stage.folder / f"model{number}"))
        (folder / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**index, name: value}))
        code, said = stage.run(
            "run", "-q", f"model={folder}", "sheet=sheet.csv", "store=store", "server=none", settings=False
        )
        tally.times += 1
        tally.escaped += (folder / "ran").exists() or code != 2
        if "Traceback" in said:
            tally.failed.append(f"{name}={value}: {said[-300:]}")
