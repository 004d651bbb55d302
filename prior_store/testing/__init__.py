"""The promises of the store as a class of tests: a backend fills one fixture and inherits them all.

class TestMyBackend(StorePromises):
    @pytest.fixture
    def url(self) -> str:
        return "mine://somewhere/empty"
"""

from prior_store.testing.care import CarePromises
from prior_store.testing.claims import ClaimPromises
from prior_store.testing.damage import DamagePromises
from prior_store.testing.made import fill, latents_of, put_object, recipe_of
from prior_store.testing.manifest import ManifestPromises
from prior_store.testing.objects import ObjectPromises
from prior_store.testing.root import RootPromises

__all__ = ["StorePromises", "fill", "latents_of", "put_object", "recipe_of"]


class StorePromises(RootPromises, ObjectPromises, ClaimPromises, ManifestPromises, CarePromises, DamagePromises):
    """What every backend must keep. Fill the fixture `url` with the address of an empty place."""
