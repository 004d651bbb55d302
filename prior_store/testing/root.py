"""Promises about the root."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from prior_store.errors import NotAStoreError, StoreVersionError
from prior_store.layout import STORE
from prior_store.store import Store
from prior_store.testing.made import Promises, put_object


class RootPromises(Promises):
    """A root is a store of ours, or it is left alone."""

    def test_opening_again_finds_the_same_store(self, store: Store, url: str, options: dict[str, object]) -> None:
        commit = put_object(store, 1)
        again = Store.open(url, storage_options=options, create=False)
        assert again.commit_of("priors", commit.key) == commit
        assert again.capabilities == store.capabilities

    def test_nothing_is_created_when_only_asked(self, url: str, options: dict[str, object]) -> None:
        with pytest.raises(NotAStoreError, match="there is no store"):
            Store.open(url, storage_options=options, create=False)

    def test_a_foreign_root_is_not_written_to(self, url: str, options: dict[str, object]) -> None:
        from prior_store.backends.address import open_files

        files = open_files(url, options)
        files.put("thesis.txt", b"years of work")
        with pytest.raises(NotAStoreError, match=r"holds other things \('thesis.txt'\)"):
            Store.open(url, storage_options=options)
        assert list(files.find("")) == ["thesis.txt"]

    def test_a_newer_format_is_refused(self, store: Store, url: str, options: dict[str, object]) -> None:
        store.files.put(STORE, store.files.read(STORE).replace(b'"version": 1', b'"version": 2'))
        before = store.files.find("")
        with pytest.raises(StoreVersionError, match=r"store format 2 .* update this installation"):
            Store.open(url, storage_options=options)
        assert store.files.find("") == before

    @pytest.mark.parametrize("version", [b"-1", b"0", b"true", b"1.0", b'"1"'])
    def test_a_version_that_no_release_ever_wrote_is_refused(
        self, store: Store, url: str, options: dict[str, object], version: bytes
    ) -> None:
        store.files.put(STORE, store.files.read(STORE).replace(b'"version": 1', b'"version": ' + version))
        before = store.files.find("")
        with pytest.raises(NotAStoreError, match=r"whole numbers from 1; restore that file .* nothing was written"):
            Store.open(url, storage_options=options)
        assert store.files.find("") == before

    def test_who_only_reads_writes_nothing(self, store: Store, url: str, options: dict[str, object]) -> None:
        commit, written = put_object(store, 1), []
        reader = Store.open(
            url, storage_options=options, create=False, fault_point=lambda stage, path: written.append((stage, path))
        )
        for name in ("put", "create", "refuses_second_create", "remove"):
            setattr(reader.files, name, lambda *told, name=name, **_: written.append((name, *told)))
        assert reader.read_file(commit, "video.mp4") == b"video 1"
        assert reader.verify().ok
        assert reader.manifest().num_rows == 1
        assert (reader.gc().items, reader.du()["rooms"]["priors"]["files"]) == ((), 4)
        assert reader.find(commit.key[:8]) == ("priors", commit.key)
        assert written == []

    def test_many_openers_make_one_store(self, url: str, options: dict[str, object]) -> None:
        with ThreadPoolExecutor(8) as pool:
            stores = list(pool.map(lambda _: Store.open(url, storage_options=options), range(8)))
        assert len({store.files.read(STORE) for store in stores}) == 1

    def test_a_backend_that_ignores_conditions_is_found_out(self, store: Store, monkeypatch: Any) -> None:
        from prior_store.backends.capabilities import SingleWriterWarning
        from prior_store.backends.root import open_root

        monkeypatch.setattr(store.files, "refuses_second_create", lambda _path, _content: False)
        with pytest.warns(SingleWriterWarning, match="only one process"):
            found = open_root(store.files, create=False).capabilities
        assert found.mode == "single writer"
