"""The promises on two real S3 servers, and what is special to S3."""

import pytest

from prior_store import Store
from prior_store.backends.address import open_files
from prior_store.testing import StorePromises


class S3Promises(StorePromises):
    @pytest.fixture
    def bucket(self):
        raise NotImplementedError

    @pytest.fixture
    def url(self, bucket):
        return bucket[0]

    @pytest.fixture
    def options(self, bucket):
        return bucket[1]


@pytest.mark.s3
class TestSeaweedStore(S3Promises):
    @pytest.fixture
    def bucket(self, seaweed_bucket):
        return seaweed_bucket

    def test_an_emptied_folder_is_an_empty_root(self, url, options):
        """SeaweedFS keeps folders, and lists an empty one as an entry of itself."""
        files = open_files(url, options)
        files.put("probe-0.json", b"{}")
        files.remove("probe-0.json")
        assert files.names("") == []
        assert Store.open(url, storage_options=options).manifest().num_rows == 0


@pytest.mark.s3
class TestMotoStore(S3Promises):
    @pytest.fixture
    def bucket(self, moto_bucket):
        return moto_bucket
