"""Stores with batches in them, made by hand: no model, no walk, the manifest and the files as a batch leaves them."""

import hashlib
import json

import numpy as np
import pytest


class HandMade:
    """A store whose rows are written one by one."""

    def __init__(self, folder):
        from prior_store import Store

        self.store = Store.open(folder)

    def key(self, name):
        return hashlib.sha256(name.encode()).hexdigest()

    def row(self, kind, name, **more):
        self.store.add_rows([self.row_of(kind, name, **more)])

    def row_of(self, kind, name, status="done", batch="b", media=True, **more):
        uri = {"video_uri": "media/video.mp4", "preview_uri": "media/preview.png", "latents_uri": "media/latents"}
        return {
            "kind": kind, "key": self.key(name), "status": status, "batch": batch, "prompt": name, "seed": 7,
            "denoise_s": 3.0 if kind == "priors" else 1.0, "decode_s": 0.5, "load_s": 100.0,
            **(uri if media and status == "done" else {}), **more,
        }  # fmt: skip

    def plan(self, batch, priors, rows):
        document = {
            "batch": batch, "sheet": "sheet.csv", "start_step": 6, "start_step_from": "the settings",
            "full_steps": 10, "model": {}, "priors": priors, "rows": rows, "warnings": [],
        }  # fmt: skip
        self.store.put_batch_file(batch, "plan.json", json.dumps(document).encode())
        self.store.put_batch_file(batch, "config.yaml", b"seed: 0\n")

    def prior(self, name, identity="fox", seed=7):
        return {"key": self.key(name), "identity": identity, "prompt": f"a {identity}", "seed": seed, "cached": False}

    def variant(self, row_id, prior, *, parent=None, key=None, **more):
        """A row of the plan: 3 of 10 steps."""
        return {
            "id": row_id, "key": self.key(key or row_id), "identity": "fox", "label": row_id, "prior": self.key(prior),
            "parent": self.key(parent or prior), "prompt": f"prompt of {row_id}", "start_step": 6, "tail": "exact",
            "sigma": 0.8, "steps": 3, "tags": [], "cached": False, "place": "line 2", **more,
        }  # fmt: skip

    def media(self):
        """One real, playable video for every row."""
        from prior_engine.video import write_video

        folder = self.store.files.local_path("media")
        folder.mkdir(exist_ok=True)
        frames = [np.full((32, 32, 3), 20 * number, np.uint8) for number in range(8)]
        write_video(iter(frames), folder / "video.mp4", fps=8, preview=folder / "preview.png")


@pytest.fixture
def made(tmp_path):
    return HandMade(tmp_path / "store")
