"""Takes the pictures of README and docs from a real batch: `python -m docs.screenshots [FOLDER] [override ...]`.

Starts a Prefect server of its own, renders the demo sheet into a scratch store, and looks at run page, artifacts, parameter
form and report with headless Chromium. All pictures go to FOLDER (default: a scratch folder, printed); the two that the
docs show go to docs/images as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
KEPT = {"run.png": "ui_run.png", "report_light.png": "report.png"}
THOUSAND = """
(count) => { const list = document.querySelector("ul.variants"), card = list.querySelector("li.card");
  while (list.children.length < count) list.append(card.cloneNode(true)); }
"""
DEPLOYMENT = (
    "from flows.nightly import deployment_of; import sys;"
    "print(deployment_of(sys.argv[1:], name='nightly', cron='30 2 * * *', timezone='Europe/Berlin', every_s=None).apply())"
)


def main(folder: Path, overrides: list[str]) -> None:
    """Render, look, keep."""
    scratch = Path(tempfile.mkdtemp(prefix="headstart-pictures-"))
    os.environ.update(HEADSTART_HOME=str(scratch / "home"), PYTHONPATH=str(ROOT))
    os.chdir(scratch)
    from flows import server
    from tasks.settings import ServerSettings

    ui = server.connect(ServerSettings(port=4800))
    settings = ["sheet=demo", "store=store", "batch=demo", "runner.chunk_size=1", *overrides]
    try:
        subprocess.run([sys.executable, "-m", "flows.cli", "run", *settings], check=True)  # noqa: S603  ourselves
        made = subprocess.run(  # noqa: S603  ourselves
            [sys.executable, "-c", DEPLOYMENT, *settings], check=True, capture_output=True, text=True
        ).stdout
        report = (scratch / "store" / "batches" / "demo" / "report.html").as_uri()
        _look(folder, str(ui), made.split()[-1], report)
    finally:
        server.stop()
    for name, kept in KEPT.items():
        _keep(folder / name, ROOT / "docs" / "images" / kept)
    shutil.rmtree(scratch)


def _look(folder: Path, ui: str, deployment: str, report: str) -> None:
    from playwright.sync_api import sync_playwright

    run = _ask(ui, "/flow_runs/filter", {"flow_runs": {"name": {"any_": ["demo"]}}})[0]["id"]
    artifacts = _ask(ui, "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    pages = {f"artifact_{found['key']}": f"{ui}/artifacts/artifact/{found['id']}" for found in artifacts}
    pages |= {"run": f"{ui}/runs/flow-run/{run}", "form": f"{ui}/deployments/deployment/{deployment}/run"}
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, address in pages.items():
            _shoot(browser, folder / f"{name}.png", address)
        for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 390)):
            _shoot(browser, folder / f"report_{name}.png", report, color_scheme=scheme, width=width)
        _shoot(browser, folder / "report_1000.png", report, do=lambda page: page.evaluate(THOUSAND, 1000))
        browser.close()


def _shoot(browser: Any, path: Path, address: str, *, width: int = 1280, do: Any = None, **how: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 850}, **how)
    page.goto(address)
    if do is not None:
        do(page)
    # Charts and videos move into place by themselves; there is no event that says when.
    page.wait_for_timeout(4000)
    if path.stem.startswith("report"):
        page.locator("li.card video").nth(1).hover()
    page.screenshot(path=path)
    page.close()


def _ask(ui: str, path: str, body: dict[str, Any]) -> Any:
    request = Request(f"{ui}/api{path}", json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=30) as reply:  # noqa: S310  our own server
        return json.load(reply)


def _keep(source: Path, target: Path) -> None:
    """Small enough for a repository: fewer colours, the same look."""
    from PIL import Image

    with Image.open(source) as picture:
        picture.convert("RGB").quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if "=" not in argument]
    chosen = Path(given[0] if given else tempfile.mkdtemp(prefix="headstart-pictures-kept-")).resolve()
    chosen.mkdir(parents=True, exist_ok=True)
    main(chosen, [argument for argument in sys.argv[1:] if "=" in argument])
    print(chosen)
