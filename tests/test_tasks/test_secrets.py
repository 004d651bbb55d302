"""What is a secret, by its name or its shape, and what is none."""

import time

import pytest

from tasks.errors import SheetError
from tasks.secrets import HIDDEN, mask, masked, masked_setting, secrets_in

CANARY = "c4n4ry-5ecret"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql+asyncpg://prefect:{CANARY}@db.local:5432/prefect",
        f"https://user:{CANARY}@host/sheet.csv",
        f"redis://:{CANARY}@host:6379",
        f"s3://bucket/x.csv?X-Amz-Credential=AKIA&X-Amz-Signature={CANARY}&X-Amz-Expires=60",
        f"https://account.blob.core.windows.net/c/x.csv?sv=2025&sig={CANARY}",
        f"https://host/x.csv?token={CANARY}",
        f"https://host/x.csv?a=1&api_key={CANARY}",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY};EndpointSuffix=core.windows.net",
        f"cannot read 'https://u:{CANARY}@host/a.csv' and 'https://u:{CANARY}@host/b.csv'",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text):
    assert CANARY not in mask(text)
    assert HIDDEN in mask(text)
    assert CANARY not in str(SheetError(f"{text} is wrong", [text]))
    assert CANARY not in SheetError("x", [text]).problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/headstart", "file:///home/me/store", "a fox says: 3:2 @ noon", "http://127.0.0.1:4200/runs/flow-run/1",
        "lora.safetensors:0.8", "a red star; seed=3; steps=4;", "https://host/a.csv?sort=name&page=2", "sheet.csv:3, column seed",
    ],
)  # fmt: skip
def test_what_is_none_stays_as_it_is(text):
    assert mask(text) == text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("again", ["?pwd", "&pwd", "pwd", "pwd=", "a.", "a://b:", "pwd "])
def test_a_text_that_is_made_for_it_does_not_take_long(again):
    begun = time.process_time()
    mask(again * (20_000 // len(again)))
    assert time.process_time() - begun < 5


def test_secrets_are_found_at_any_depth_and_under_any_of_their_names():
    tree = {
        "client_kwargs": {"aws_secret_access_key": CANARY, "endpoint_url": "http://localhost"},
        "account_key": CANARY, "connection_string": CANARY, "credential": CANARY, "sas_token": CANARY, "password": CANARY,
        "list": [{"api_key": CANARY}, f"https://u:{CANARY}@h"], "profile": "team", "anon": False,
    }  # fmt: skip
    assert sorted(secrets_in(tree)) == sorted(
        ["client_kwargs.aws_secret_access_key", "account_key", "connection_string", "credential", "sas_token", "password",
         "list[0].api_key", "list[1]"]
    )  # fmt: skip
    assert CANARY not in repr(masked(tree))
    assert masked(tree)["client_kwargs"]["endpoint_url"] == "http://localhost"
    assert masked(tree)["profile"] == "team"


@pytest.mark.parametrize(
    "line",
    [
        f"server.database=postgresql+asyncpg://p:{CANARY}@h/d",
        f"store.storage_options.client_kwargs.aws_secret_access_key={CANARY}",
        f"store.storage_options={{client_kwargs: {{aws_secret_access_key: {CANARY}}}}}",
        f"sheet=https://u:{CANARY}@h/s.csv",
    ],
)
def test_settings_are_shown_without_what_they_hide(line):
    assert CANARY not in masked_setting(line)
    assert masked_setting(line).startswith(line.partition("=")[0] + "=")


@pytest.mark.parametrize("line", ["sheet=my.csv", "store=s3://bucket/x", "schedule.num_inference_steps=20", "seed=3"])
def test_other_settings_are_shown_as_they_are(line):
    assert masked_setting(line) == line
