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

ROOT = Path(__file__).resolve().parent.parent
KEPT = {"run.png": "ui_run.png", "report_light.png": "report.png"}
DEPLOYMENT = (
    "from flows.on_prefect.nightly import deployment_of; import sys;"
    "print(deployment_of(sys.argv[1:], name='nightly', cron='30 2 * * *', timezone='Europe/Berlin', every_s=None).apply())"
)


def main(folder: Path, overrides: list[str]) -> None:
    """Render, look, keep."""
    scratch = Path(tempfile.mkdtemp(prefix="headstart-pictures-"))
    os.environ.update(HEADSTART_HOME=str(scratch / "home"), PYTHONPATH=str(ROOT))
    os.chdir(scratch)
    from flows.on_prefect import server
    from tasks.settings import ServerSettings

    ui = server.connect(ServerSettings(port=4800))
    settings = ["sheet=demo", "store=store", "batch=demo", "runner.chunk_size=1", *overrides]
    try:
        subprocess.run([sys.executable, "-m", "flows.cli", "run", *settings], check=True)  # noqa: S603  ourselves
        made = subprocess.run(  # noqa: S603  ourselves
            [sys.executable, "-c", DEPLOYMENT, *settings], check=True, capture_output=True, text=True
        ).stdout
        _look(folder, str(ui), made.split()[-1], *_thousand_rows(scratch / "store"))
    finally:
        server.stop()
    for name, kept in KEPT.items():
        _keep(folder / name, ROOT / "docs" / "images" / kept)
    shutil.rmtree(scratch)


def _thousand_rows(store: Path) -> tuple[str, str]:
    """A second batch of a thousand rows that share the videos of the first; the addresses of both reports."""
    from prior_store import Store
    from tasks.pages.report import write_report

    opened = Store.open(store)
    plan = json.loads(opened.read_batch_file("demo", "plan.json"))
    rows = plan["rows"]
    plan["rows"] = [{**rows[number % len(rows)], "id": f"row-{number:04}"} for number in range(1000)]
    opened.put_batch_file("thousand", "plan.json", json.dumps(plan | {"batch": "thousand"}).encode())
    opened.put_batch_file("thousand", "config.yaml", opened.read_batch_file("demo", "config.yaml"))
    write_report(opened, "thousand")
    return tuple((store / "batches" / batch / "report.html").as_uri() for batch in ("demo", "thousand"))  # type: ignore[return-value]


def _look(folder: Path, ui: str, deployment: str, report: str, thousand: str) -> None:
    from playwright.sync_api import sync_playwright

    run = _ask("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["demo"]}}})[0]["id"]
    artifacts = _ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    pages = {f"artifact_{found['key']}": f"{ui}/artifacts/artifact/{found['id']}" for found in artifacts}
    pages |= {
        "run": f"{ui}/runs/flow-run/{run}",
        "form": f"{ui}/deployments/deployment/{deployment}/run",
    }
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        let_in = _let_in(browser)
        for name, address in pages.items():
            height = 1150 if name == "form" else 850
            _shoot(browser, folder / f"{name}.png", address, height=height, storage_state=let_in)
        _shoot(
            browser, folder / "run_artifacts.png", pages["run"], do=_go_to_artifacts, height=1150, storage_state=let_in
        )
        for scheme in ("light", "dark"):
            _shoot(browser, folder / f"report_{scheme}.png", report, do=_point_at_one, color_scheme=scheme)
        _shoot(browser, folder / "report_phone.png", report, width=390)
        _shoot(browser, folder / "report_phone_tap.png", report, width=390, do=_point_at_one)
        _shoot(browser, folder / "report_1000.png", thousand)
        _shoot(browser, folder / "report_1000_end.png", thousand, do=_go_to_the_end)
        browser.close()


def _let_in(browser: Any) -> Any:
    """What a browser keeps that has used the link of `headstart ui open`."""
    from flows.on_prefect import server

    running = server.running()
    if running is None:
        raise SystemExit("the server has ended")
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.entrance)
    page.wait_for_url("**/dashboard**")
    return context.storage_state()


def _go_to_artifacts(page: Any) -> None:
    page.get_by_text("Artifacts", exact=True).click()


def _point_at_one(page: Any) -> None:
    page.locator("li.card video").nth(1).hover()


def _go_to_the_end(page: Any) -> None:
    page.locator("li.card").last.scroll_into_view_if_needed()


def _shoot(
    browser: Any, path: Path, address: str, *, width: int = 1280, height: int = 850, do: Any = None, **how: Any
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, **how)
    page.goto(address)
    if do is not None:
        do(page)
    # Charts and videos move into place by themselves; there is no event that says when.
    page.wait_for_timeout(4000)
    page.screenshot(path=path)
    page.close()


def _ask(path: str, body: dict[str, Any]) -> Any:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        return client.request("POST", path, json=body).json()  # type: ignore[arg-type]


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
