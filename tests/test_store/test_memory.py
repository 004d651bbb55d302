"""The promises in memory."""

import secrets

import pytest

from prior_store.testing import StorePromises


class TestMemoryStore(StorePromises):
    @pytest.fixture
    def url(self):
        return f"memory://{secrets.token_hex(8)}/store"
