"""What people get wrong, and what goes wrong around them: one clear sentence each, and nothing is lost."""

import json
import os
import subprocess
import sys

import pytest

from prior_store import Store
from prior_store.errors import (
    NoSpaceError,
    NotAStoreError,
    StoreAddressError,
    StoreError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from prior_store.testing import put_object


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "the store URL is empty"),
        ("   ", "the store URL is empty"),
        ("s3://key:secret@bucket/store", "carries credentials"),
        ("simplecache::s3://bucket/store", "is a chain"),
        ("nonsense://bucket/store", "nonsense"),
    ],
)
def test_an_address_that_cannot_be_a_store(url, says):
    with pytest.raises(StoreAddressError, match=says) as told:
        Store.open(url)
    assert "secret" not in str(told.value)


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "store").write_text("mine")
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        Store.open(tmp_path / "store")
    assert (tmp_path / "store").read_text() == "mine"


def test_a_root_without_rights(tmp_path, monkeypatch):
    """Rights do not bind the superuser, whom containers run as: the refusal is that of the system call."""
    from prior_store.backends.local import LocalFiles

    Store.open(tmp_path / "store")

    def refused(_self, path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(LocalFiles, "read", refused)
    with pytest.raises(StoreUnreachableError, match=r"refuses access .* check the rights of this user"):
        Store.open(tmp_path / "store")


def test_a_store_that_may_only_be_read(tmp_path, monkeypatch):
    from prior_store.backends.local import LocalFiles

    commit = put_object(Store.open(tmp_path / "store"), 1)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    for name in ("put", "create", "refuses_second_create", "remove"):
        monkeypatch.setattr(LocalFiles, name, refused)
    store = Store.open(tmp_path / "store")
    assert store.capabilities.mode == "read only"
    assert store.manifest().num_rows == 1
    assert store.read_file(commit, "video.mp4") == b"video 1"
    assert store.verify().ok
    assert store.gc().dry_run
    for write in (
        lambda: store.claim("priors", commit.key),
        lambda: store.add_rows([commit.row]),
        lambda: store.put_batch_file("b", "plan.json", b""),
        lambda: store.put_embedding(commit.key, {}),
        store.compact,
        store.repair,
        lambda: store.gc(dry_run=False),
    ):
        with pytest.raises(StoreReadOnlyError, match="read but not written"):
            write()


def test_a_store_record_that_is_broken_is_left_as_it_is(tmp_path):
    Store.open(tmp_path / "store")
    record = tmp_path / "store" / "STORE.json"
    for content in ("", "{", "[]", '{"format": "other", "version": 1}', '{"format": "headstart-store"}'):
        record.write_text(content)
        with pytest.raises(NotAStoreError, match="nothing was written"):
            Store.open(tmp_path / "store")
        assert record.read_text() == content


def test_space_is_asked_for_before_the_work(tmp_path):
    store = Store.open(tmp_path / "store")
    store.require_space(1)
    with pytest.raises(NoSpaceError, match=r"MiB are needed and .* MiB are free .* keep fewer steps"):
        store.require_space(2**60)
    Store.open("memory://space/store").require_space(2**60)  # nobody can know


@pytest.mark.s3
class TestS3:
    def test_wrong_credentials(self, seaweed_server):
        options = {**seaweed_server.options, "secret": "guessed"}
        with pytest.raises(StoreUnreachableError, match=r"refuses access .* credentials in the environment") as told:
            Store.open(seaweed_server.new_place(), storage_options=options)
        assert "guessed" not in str(told.value)

    def test_no_credentials_at_all(self, seaweed_server, monkeypatch, tmp_path):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        options = {"client_kwargs": {"endpoint_url": seaweed_server.endpoint}}
        with pytest.raises(StoreUnreachableError, match="credentials"):
            Store.open(seaweed_server.new_place(), storage_options=options)

    def test_a_missing_bucket(self, moto_server):
        """On moto, which refuses as AWS does; SeaweedFS makes the bucket on the first write of an administrator."""
        with pytest.raises(StoreUnreachableError, match=r"bucket or folder .* does not exist .* create it first"):
            Store.open("s3://there-is-no-such-bucket/store", storage_options=moto_server.options)

    def test_a_server_that_is_not_there(self, seaweed_server, monkeypatch):
        monkeypatch.setattr("prior_store.backends.retries.FIRST_PAUSE_S", 0.01)
        options = {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
        with pytest.raises(StoreUnreachableError):
            Store.open("s3://bucket/store", storage_options=options)

    def test_credentials_and_endpoint_are_never_written(self, moto_server, tmp_path):
        """The endpoint and the keys come by the environment, as people set them, and nothing of them is kept."""
        url = moto_server.new_place()
        script = (
            "import sys; from prior_store import Store; from prior_store.testing import put_object\n"
            "store = Store.open(sys.argv[1]); commit = put_object(store, 1)\n"
            "store.put_batch_file('b', 'plan.json', b'{}'); store.compact(grace_s=0); assert store.verify().ok\n"
            "print(store.url, store.uri_of(commit, 'video.mp4'), store.capabilities)"
        )
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": "env-key-id", "AWS_SECRET_ACCESS_KEY": "env-secret",
            "AWS_ENDPOINT_URL": moto_server.endpoint,
        }  # fmt: skip
        answer = subprocess.run(
            [sys.executable, "-c", script, url],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        store = Store.open(url, storage_options=moto_server.options)
        written = b"".join(content or b"" for content in store.files.read_many(store.files.find("")).values())
        for secret in ("env-key-id", "env-secret", moto_server.endpoint):
            assert secret.encode() not in written
            assert secret not in answer.stdout + answer.stderr


def test_every_error_is_a_store_error_and_a_builtin():
    from prior_store import errors

    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not StoreError]
    assert len(classes) == errors.__doc__.count("──")
    for kind in classes:
        assert issubclass(kind, StoreError)
        builtins = [
            base
            for base in kind.__mro__
            if base.__module__ == "builtins" and base not in (Exception, BaseException, object)
        ]
        assert builtins, kind
        assert f"{kind.__name__} ({builtins[0].__name__})" in errors.__doc__
        assert str(kind("say it")) == "say it"


@pytest.mark.process
def test_importing_the_store_is_quick_and_loads_nothing_heavy():
    script = (
        "import json, sys, prior_store\n"
        "from prior_store import recipe_key\n"
        "recipe_key({'seed': 1})\n"
        "heavy = ('torch', 'pyarrow', 'diffusers', 'prefect', 's3fs', 'numpy', 'fsspec')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []
