"""Random sequences of everything that people do to a store, against a model of what it promises."""

import secrets
import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prior_store import Store, recipe_key
from prior_store.care.gc import Retention
from prior_store.layout import KINDS
from prior_store.testing import fill, put_object, recipe_of

numbers = st.integers(0, 5)
batches = st.sampled_from(["b0", "b1", "b2"])
TTL_S = 0.01
NO_GRACE = -60


class CrashedError(BaseException):
    """The process is gone: nothing below may catch this and go on."""


class Mortal:
    """A fault point that ends its process at the n-th edge, and lets nothing be written after that."""

    def __init__(self):
        self.left = None

    def __call__(self, _stage, _path):
        if self.left is None or threading.current_thread() is not threading.main_thread():
            return  # a heartbeat thread dies with its process, not by an exception
        if self.left <= 0:
            raise CrashedError
        self.left -= 1


class StoreMachine(RuleBasedStateMachine):
    """The model: which keys are certainly done, which may be (a crash came in between), which rows failed."""

    def __init__(self):
        super().__init__()
        self.url = f"memory://{secrets.token_hex(8)}/store"
        self.store = Store.open(self.url)
        self.batch = {}
        self.failed = set()
        self.deferred = {}
        self.doubtful = set()
        self.cleaner_died = False

    def key(self, number):
        return recipe_key(recipe_of(number))

    def kind(self, number):
        return KINDS[number % 2]

    @initialize()
    def open(self):
        self.store = Store.open(self.url, create=False)

    @rule(number=numbers, batch=batches)
    def put(self, number, batch):
        key = self.key(number)
        there = key in self.batch or key in self.doubtful or key in self.deferred
        commit = put_object(self.store, number, self.kind(number), {"batch": batch}, ttl_s=TTL_S)
        assert commit.key == key
        if not there:
            self.batch[key] = batch

    @rule(number=numbers)
    def commit_and_list_later(self, number):
        key = self.key(number)
        if key in self.batch or key in self.doubtful or key in self.deferred:
            return
        commit = put_object(self.store, number, self.kind(number), {"batch": "b1"}, ttl_s=TTL_S, defer_row=True)
        self.deferred[key] = commit

    @precondition(lambda self: self.deferred)
    @rule()
    def list_what_waits(self):
        self.store.add_rows([commit.row for commit in self.deferred.values()])
        self.batch.update(dict.fromkeys(self.deferred, "b1"))
        self.deferred.clear()

    @rule(number=numbers)
    def fail(self, number):
        self.store.add_rows([{"kind": self.kind(number), "key": self.key(number), "status": "failed", "error": "x"}])
        self.failed.add(self.key(number))

    @rule(number=numbers)
    def give_up(self, number):
        with self.store.claim(self.kind(number), self.key(number), ttl_s=TTL_S) as claim:
            fill(claim, number)  # and leave without a word

    @rule(number=numbers, left=st.integers(0, 24), what=st.sampled_from(["put", "compact", "gc"]))
    def crash(self, number, left, what):
        mortal = Mortal()
        dying = Store.open(self.url, fault_point=mortal)
        mortal.left = left
        key = self.key(number)
        try:
            if what == "put":
                put_object(dying, number, self.kind(number), {"batch": "b2"}, ttl_s=TTL_S)
            elif what == "compact":
                dying.compact(grace_s=0)
            else:
                dying.gc(dry_run=False, grace_s=NO_GRACE, unused_steps=True)
        except CrashedError:
            self.cleaner_died |= what == "gc"
        if what == "put" and key not in self.batch and key not in self.deferred:
            # Whether the commit came about is for the store to say; that it is whole or absent is what is checked.
            self.doubtful.add(key)

    @rule()
    def repair(self):
        assert self.store.repair().after.ok
        self.cleaner_died = False
        for key in list(self.doubtful):
            if key in self.store.known("priors") | self.store.known("variants"):
                self.batch[key] = self.store.rows_by_key([key])[key]["batch"]
        self.doubtful.clear()
        self.batch.update(dict.fromkeys(self.deferred, "b1"))
        self.deferred.clear()

    @rule()
    def compact(self):
        self.store.compact(grace_s=0)

    @rule()
    def collect(self):
        self.store.gc(dry_run=False, grace_s=NO_GRACE)

    @precondition(lambda self: not self.doubtful and not self.deferred)
    @rule(batch=batches)
    def retire(self, batch):
        self.store.gc(dry_run=False, grace_s=NO_GRACE, retention=Retention(batches=[batch]))
        gone = {key for key, its in self.batch.items() if its == batch}
        self.failed -= gone  # a removal buries what was written before it
        for key in gone:
            del self.batch[key]

    @rule()
    def reopen(self):
        self.store = Store.open(self.url, create=False)

    @invariant()
    def the_manifest_says_what_was_done(self):
        table = self.store.manifest(columns=["key", "status"])
        rows = dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))
        assert len(rows) == table.num_rows
        done = {key for key, status in rows.items() if status == "done"}
        assert set(self.batch) <= done <= set(self.batch) | self.doubtful
        assert done | {key for key, status in rows.items() if status == "failed"} == set(rows)
        assert {key for key in self.failed if key not in done and key not in self.doubtful} <= set(rows)

    @invariant()
    def everything_that_is_listed_is_whole(self):
        unlisted = self.doubtful | set(self.deferred)
        allowed = {("object without row", key) for key in unlisted}
        if self.cleaner_died:
            allowed |= {("row differs from object", key) for key in self.batch}
        assert {(problem.what, problem.key) for problem in self.store.verify().problems} <= allowed

    def teardown(self):
        assert self.store.repair().after.ok
        for number in range(6):
            put_object(self.store, number, self.kind(number), ttl_s=TTL_S)
        assert self.store.verify().ok
        assert len(self.store.known("priors") | self.store.known("variants")) == 6
        self.store.files.fs.rm(self.store.files.prefix, recursive=True)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestStoreMachine.pytestmark = [pytest.mark.slow]
