"""Who is let in: the attacks of a foreign web page and of another program, against a real server, one by one."""

import base64
import http.client
import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from server_api import Api

from flows.on_prefect.door.bounds import Bounds, within

pytestmark = pytest.mark.server
NOTHING = "00000000-0000-0000-0000-000000000000"
# What was used to run a shell command through a served deployment, and all that writes besides.
WRITES = [
    ("POST", "/api/flows/", {"name": "taken"}),
    ("POST", "/api/flow_runs/", {"flow_id": NOTHING, "parameters": {"sheet": "/etc/shadow"}}),
    ("POST", f"/api/flow_runs/{NOTHING}/set_state", {"state": {"type": "SCHEDULED"}}),
    ("PATCH", f"/api/flow_runs/{NOTHING}", {"name": "taken"}),
    ("DELETE", f"/api/flow_runs/{NOTHING}", None),
    ("POST", "/api/deployments/", {"name": "taken", "flow_id": NOTHING, "pull_steps": []}),
    ("PATCH", f"/api/deployments/{NOTHING}", {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {}}]}),
    ("POST", f"/api/deployments/{NOTHING}/create_flow_run", {"parameters": {"sheet": "/etc/shadow"}}),
    ("POST", f"/api/deployments/{NOTHING}/schedule", {}),
    ("POST", "/api/events", []),
    ("POST", "/api/artifacts/", {"key": "taken"}),
    ("POST", "/api/logs/", []),
    ("POST", "/api/variables/", {"name": "taken", "value": 1}),
    ("POST", "/api/block_documents/", {}),
    ("POST", "/api/automations/", {}),
    ("POST", "/api/work_pools/", {"name": "taken", "type": "process"}),
    ("POST", "/api/admin/database/clear", {"confirm": True}),
]  # fmt: skip
READS = ["/api/admin/settings", "/api/csrf-token?client=x", f"/api/deployments/{NOTHING}", "/api/flow_runs/count"]


@pytest.fixture(scope="module")
def asked(prefect_server):
    """One request with exactly these headers; the status of the answer and its text."""
    own = urlsplit(prefect_server.ui_url).netloc
    password = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()

    def ask(method, path, body=None, *, host=own, let_in=False, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", prefect_server.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": host, **headers}.items():
                if value is not None:
                    connection.putheader(name.replace("_", "-"), value)
            if let_in:
                connection.putheader("Authorization", f"Basic {password}")
            content = b"" if body is None else json.dumps(body).encode()
            if content:
                connection.putheader("Content-Type", "text/plain")
            connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
        finally:
            connection.close()

    return ask


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_foreign_page_changes_nothing_even_with_the_password(asked, method, path, body):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", ""):
        status, _, headers = asked(method, path, body, let_in=True, Origin=origin)
        assert status == 403, (origin, path)
        assert "access-control-allow-origin" not in {name.lower() for name in headers}


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_without_the_password_nothing_changes(asked, method, path, body):
    for more in ({}, {"Authorization": "Basic aGVhZHN0YXJ0Og=="}, {"Authorization": "Bearer x"}):
        status, _, _ = asked(method, path, body, **more)
        assert status in {401, 403}, (more, path)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_the_password_alone_changes_nothing_either(asked, method, path, body):
    status, text, _ = asked(method, path, body, let_in=True)
    assert (status, "CSRF" in text) == (403, True)


@pytest.mark.parametrize("path", READS)
def test_without_the_password_nothing_is_read(asked, path):
    assert asked("GET", path)[0] in {401, 405}
    assert asked("GET", path, let_in=True, Origin="https://evil.example")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "0.0.0.0", "", None])
def test_a_name_that_was_made_to_point_here_is_not_answered(asked, host):
    for path in ("/", "/api/health", "/headstart/enter", "/api/flow_runs/count"):
        assert asked("GET", path, host=host, let_in=True)[0] in {400, 421}, path


def test_a_foreign_preflight_is_not_granted(asked):
    asks = {"Access_Control_Request_Method": "PATCH", "Access_Control_Request_Headers": "authorization"}
    status, _, headers = asked("OPTIONS", "/api/deployments/", Origin="https://evil.example", **asks)
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_foreign_page_opens_no_socket(asked):
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
        assert asked("GET", path, Origin="https://evil.example", **upgrade)[0] == 403
        assert asked("GET", path, host="evil.example", **upgrade)[0] == 403


def test_who_is_let_in_gets_in(prefect_server, asked):
    assert Api(prefect_server).ask("/flow_runs/count", {}) >= 0
    assert asked("GET", "/api/health")[0] == 200
    status, page, headers = asked("GET", "/headstart/enter")
    assert status == 200
    assert "location.hash" in page
    assert os.environ["PREFECT_API_AUTH_STRING"] not in page
    assert "default-src 'none'" in headers["content-security-policy"]


def test_the_secret_is_on_no_command_line_and_in_no_log(prefect_server):
    secret = os.environ["PREFECT_API_AUTH_STRING"].partition(":")[2]
    assert len(secret) > 30
    from flows.on_prefect.server import log_file

    assert secret not in log_file().read_text()
    assert secret not in Path(f"/proc/{prefect_server.pid}/cmdline").read_text()


@pytest.mark.browser
def test_the_link_lets_a_browser_in_and_without_it_there_is_a_login(prefect_server, chromium):
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(f"{prefect_server.ui_url}/runs")
        page.wait_for_url(re.compile("/login"))
        page.goto(prefect_server.entrance)
        page.wait_for_url(re.compile(f"{re.escape(prefect_server.ui_url)}/(dashboard|runs).*"))
        page.get_by_text("Active Work Pools").wait_for()
        assert "#" not in page.url
    finally:
        context.close()


ROOT = "/data/sheets"
SERVED = Bounds(roots=(ROOT, "s3://bucket/a", "Wan-AI"), lines=frozenset({"runner.devices=cpu"}))


@pytest.mark.parametrize(
    "line",
    [
        "sheet=/etc/shadow", "sheet=/data/sheets/../../etc/shadow", "sheet=/data/sheetsother/x.csv", "store=/tmp",
        "sheet=file:///etc/shadow", "sheet=s3://bucket/ab/x.csv", "sheet=s3://bucket/a/../b", "store=s3://other",
        "sheet=s3://bucket/a/%2e%2e/b", "sheet=zip::/data/sheets/x.zip", "sheet=simplecache::s3://bucket/a/x.csv",
        "sheet.identities=/etc/passwd", "model=/etc", "model=someone/else", "model.source=../../etc", "sheet=-",
        "sheet.allow_roots=[/]", "sheet.allow_http=true", "store.storage_options={endpoint_url: http://evil}",
        "server.database=postgresql://x", "model.revision=evil", "model.pipeline=Evil", "model.offline=false",
        "runner.devices=cuda:0", "accel.cache=none", "hydra.run.dir=/tmp", "+new.key=1", "hydra/launcher=x", "nonsense",
    ],
)  # fmt: skip
def test_a_deployment_is_not_told_what_needs_a_shell(line):
    (problem,) = SERVED.problems([line])
    assert line.partition("=")[0] in problem


@pytest.mark.parametrize(
    "line",
    [
        "sheet=/data/sheets/a.csv", "sheet=/data/sheets/b/../a.csv", "sheet=s3://bucket/a/x.csv", "sheet=demo",
        "store=/data/sheets", "model=Wan-AI/Wan2.1", "runner.devices=cpu", "schedule.num_inference_steps=20",
        "schedule=wan", "guidance=3", "tags=[night]", "start_step=2", "prior.keep=all", "video.quality=3", "batch=a",
    ],
)  # fmt: skip
def test_a_deployment_is_told_what_a_form_is_for(line):
    assert SERVED.problems([line]) == []


def test_links_do_not_lead_out_of_a_root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to("/etc")
    assert not within(str(tmp_path / "root" / "out" / "passwd"), str(tmp_path / "root"))
    assert within(str(tmp_path / "root" / "in.csv"), str(tmp_path / "root"))
