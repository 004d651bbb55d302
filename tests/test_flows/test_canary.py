"""A canary in every place where somebody might put a secret is found nowhere afterwards."""

import os

import pytest

from tests.test_flows.conftest import TINY, Ended, sheet_text

CANARY = "c4n4ry-5ecret"
DATABASE = f"server.database=postgresql+asyncpg://prefect:{CANARY}@127.0.0.1:9/prefect"
OPTIONS = "store.storage_options"

pytestmark = pytest.mark.process


@pytest.fixture
def asked(tmp_path, tiny_t2v, prepared):
    (tmp_path / "s.csv").write_text(sheet_text(["fox"], ["runs"]))
    # The server that other tests share would be used instead of the one that is asked for here.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}

    def ask(*words, **environment):
        own = {"HEADSTART_HOME": str(tmp_path / "home"), "NO_COLOR": "1", **environment}
        process = prepared.start(words, tmp_path, {**inherited, **own})
        out, err = process.communicate(200)
        assert CANARY not in out + err
        return Ended(process.returncode, out, err)

    ask.model = [f"model={tiny_t2v}", *TINY, "store=store", "sheet=s.csv"]
    return ask


def found_in(folder):
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "wrong",
    [
        f"{OPTIONS}.key={CANARY}", f"{OPTIONS}.client_kwargs.aws_secret_access_key={CANARY}",
        f"{OPTIONS}={{client_kwargs: {{aws_secret_access_key: {CANARY}}}}}", f"{OPTIONS}.connection_string={CANARY}",
        f"{OPTIONS}.account_key={CANARY}", f"{OPTIONS}.credential={CANARY}",
        f"store=s3://user:{CANARY}@bucket/x", f"sheet=https://user:{CANARY}@127.0.0.1:9/s.csv",
        f"sheet=http://127.0.0.1:9/s.csv?X-Amz-Signature={CANARY}", f"{OPTIONS}.endpoint=http://u:{CANARY}@h",
        f"model=https://u:{CANARY}@host/model",
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_without_repeating_it(asked, tmp_path, wrong):
    said = asked("run", *asked.model, "server=none", wrong)
    assert said.returncode == 2, (said.stdout, said.stderr)
    assert found_in(tmp_path) == []


def test_the_environment_cannot_be_read_through_a_setting(asked, tmp_path):
    for line in ("tags=[${oc.env:TOKEN}]", "batch='${oc.env:TOKEN}'", 'negative_prompt="${oc.env:TOKEN}"',
                 "store.storage_options={a: ${oc.env:TOKEN}}", "negative_prompt=${oc.env:TOKEN}"):  # fmt: skip
        asked("config", line, TOKEN=CANARY)
        asked("run", *asked.model, "server=none", line, TOKEN=CANARY)
    assert found_in(tmp_path) == []


def test_a_database_with_a_password_is_kept_nowhere(asked, tmp_path):
    assert DATABASE.partition("=")[0] in "server.database"
    shown = asked("config", DATABASE)
    assert "postgresql+asyncpg://***@127.0.0.1:9/prefect" in shown.stdout
    # Nobody listens there: the server does not start, and says so.
    failed = asked("run", *asked.model, DATABASE, "server.port=4930")
    assert failed.returncode == 2, failed.stderr
    assert "the Prefect server" in failed.stderr
    done = asked("run", *asked.model, "server=none")
    assert done.returncode == 0, done.stderr
    assert found_in(tmp_path) == []


def test_a_schedule_refuses_to_keep_a_secret(asked, tmp_path):
    from flows.on_prefect.nightly import deployment_of
    from tasks.errors import SettingsError

    with pytest.raises(SettingsError, match=r"server.database holds a secret"):
        deployment_of([*asked.model[:-2], f"store={tmp_path / 'store'}", f"sheet={tmp_path / 's.csv'}", DATABASE],
                      name="n", cron="0 3 * * *", timezone="UTC", every_s=None)  # fmt: skip


def test_a_run_in_the_ui_shows_no_secret():
    from flows.on_prefect.flows import parameters_of

    parameters = parameters_of([f"sheet=https://u:{CANARY}@h/s.csv", DATABASE], ["sheet", "store", "overrides"])
    assert CANARY not in repr(parameters)
