"""The transformer's and the text encoder's part: ordinary flow matching, nothing else.

Each example is a clip's own latents mixed with fresh noise, and the net learns the straight way between the two. It
never sees a half-finished run, another clip's latents or a changed prompt: what a prior is worth is measured on it
later, and would be worth nothing if it had been taught here.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from demo.model import nets
from demo.model.codec import LATENT_SHAPE, NUM_SHARDS, SHARD, first_frame_condition, grey_latents, load_vae
from demo.model.optim import MatrixAdam, decay
from demo.world.captions import all_captions, every_caption
from demo.world.clips import ASPECTS, FRAMES, IDENTITIES, draw_clips

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from demo.world.clips import Clip

    Look: TypeAlias = Callable[[Path], dict[str, Any]]
    """Judges the nets as a training folder has them now."""

DROP_CAPTION: Final = 0.10
DROP_IMAGE: Final = 0.50
SHIFT: Final = 3.0
EMA: Final = 0.998
LOOK_EVERY: Final = 200
PADS: Final = (8, 512)


class Text:
    """Captions as token ids, ready for batches; row 0 is the empty caption."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        texts = ["", *every_caption()]
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
        self.ids: Tensor = encoded.input_ids
        self.mask: Tensor = encoded.attention_mask
        place = {text: i for i, text in enumerate(texts)}
        self.rows = {
            (identity, aspect): [place[text] for text in all_captions(identity, aspect)]
            for identity in IDENTITIES
            for aspect in ASPECTS
        }


def sample_sigmas(n: int, rng: torch.Generator) -> Tensor:
    """Half uniform, half logit-normal, then shifted towards noise."""
    u = torch.where(
        torch.rand(n, generator=rng) < 0.5, torch.rand(n, generator=rng), torch.randn(n, generator=rng).sigmoid()
    )
    return (SHIFT * u / (1 + (SHIFT - 1) * u)).clamp(0.002, 1.0)


def train_denoiser(
    folder: Path,
    *,
    seed: int,
    phases: tuple[int, ...],
    look: Look,
    batch: int = 64,
    device: str = "cpu",
    workers: int = 1,
) -> None:
    """Train, keep a running average, and log the loss by how much noise there was, and now and then what `look` sees.

    `phases` are the steps at which the rate has come down to nothing: each is a state that can be shipped. The next one
    starts from the running average with a fresh optimiser, so the shipped weights are all that it needs (`restore`).
    Each worker is a process with a share of every batch; their number changes rounding and nothing else. On a busy
    machine this is much quicker than threads, which wait for each other at every operation.
    """
    for begin, end in pairwise((0, *phases)):
        if _step_of(folder / "denoiser-state.safetensors") >= end:
            continue
        with TemporaryDirectory() as meeting:
            job = (Path(meeting) / "meet", workers, folder, seed, begin, end, look, batch, device)
            if workers == 1:
                _train(0, *job)
            else:
                torch.multiprocessing.spawn(_train, args=job, nprocs=workers)


def _step_of(path: Path) -> int:
    if not path.exists():
        return 0
    with safe_open(path, "pt") as state:
        return int(state.get_tensor("step"))


def _train(
    rank: int,
    meeting: Path,
    workers: int,
    folder: Path,
    seed: int,
    begin: int,
    end: int,
    look: Look,
    batch: int,
    device: str,
) -> None:
    if workers > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    torch.manual_seed(seed + 3)
    vae = load_vae(folder)
    latents = torch.cat([load_file(folder / f"latents-{n:03d}.safetensors")["latents"] for n in range(NUM_SHARDS)])
    clips = [clip for n in range(NUM_SHARDS) for clip in draw_clips(SHARD, seed=seed * 1000 + 100 + n)]
    grey = grey_latents(vae, FRAMES)
    text = Text(nets.build_tokenizer(every_caption()))
    encoder = nets.build_text_encoder(int(text.ids.max()) + 1).to(device)
    net = nets.build_transformer().to(device)
    context = nets.PaddedContext().attach(net)

    named = [("net." + n, p) for n, p in net.named_parameters()]
    named += [("text." + n, p) for n, p in encoder.named_parameters()]
    plain = ("patch_embedding", "proj_out", "condition_embedder", "scale_shift", "text.", "norm")
    optim = MatrixAdam(named, matrix_lr=0.012, adam_lr=1.5e-3, plain=plain)
    average = {n: p.detach().clone() for n, p in named}
    state_path, start, began = folder / "denoiser-state.safetensors", 0, time.time()
    if state_path.exists():
        state = load_file(state_path, device=device)
        start = int(state["step"])
        for n, p in named:
            p.data.copy_(state[f"{'average' if start == begin else 'now'}.{n}"])
            average[n].copy_(state[f"average.{n}"])
        if start > begin:
            optim.restore(state)

    losses: list[tuple[float, float, bool]] = []
    for step in range(start, end):
        example = _draw_batch(step, batch, seed, clips, text)
        ours = {name: value[rank::workers].to(device) for name, value in example.items()}
        clean, mask = latents[ours["pick"].cpu()].float().to(device), text.mask.to(device)[ours["rows"]]
        words = int(mask.sum(1).max())
        mask = mask[:, :words]
        embeds = encoder(text.ids.to(device)[ours["rows"]][:, :words], mask).last_hidden_state * mask[..., None]
        embeds = torch.cat([embeds, embeds.new_zeros(len(clean), 1, nets.TEXT_DIM)], 1)
        lengths = mask.sum(1)
        context.bias = context.bias_for(lengths, (ours["padded_to"] - lengths).clamp(min=1), words + 1)

        keep = ours["keep"].view(-1, 1, 1, 1, 1)
        condition = first_frame_condition(clean, grey) * keep
        sigma, noise = ours["sigma"], ours["noise"]
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1))
        velocity = net(torch.cat([mixed, condition], 1), sigma * 1000, embeds, return_dict=False)[0]
        error = (velocity - (noise - clean)).square().flatten(1).mean(1)
        error.mean().backward()
        if workers > 1:
            _share_gradients(named, workers)
        optim.step(decay(step - begin, end - begin))
        with torch.no_grad():
            # A short memory at first, so that the average is of use early.
            weight = 1 - min(EMA, (step + 1) / (step + 12))
            for n, p in named:
                average[n].lerp_(p, weight)
        if rank > 0:
            continue

        losses += list(zip(error.tolist(), sigma.tolist(), ours["keep"].tolist(), strict=True))
        if (step + 1) % 25 == 0:
            entry = {"step": step + 1, "loss": _mean(losses), "s": round(time.time() - began, 1)}
            entry |= {"t2v": _mean([x for x in losses if not x[2]]), "i2v": _mean([x for x in losses if x[2]])}
            entry |= {"t2v_high": _mean([x for x in losses if not x[2] and x[1] > 0.9])}
            entry |= {"i2v_high": _mean([x for x in losses if x[2] and x[1] > 0.9])}
            with (folder / "denoiser.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            losses = []
        if (step + 1) % 50 == 0 or step + 1 == end:
            now = {f"now.{n}": p.detach().contiguous() for n, p in named}
            held = {f"average.{n}": t for n, t in average.items()}
            save_file({"step": torch.tensor(step + 1), **now, **held, **optim.state()}, folder / "denoiser-state.part")
            (folder / "denoiser-state.part").rename(state_path)
        if (step + 1) % LOOK_EVERY == 0 and (folder / "vae.safetensors").exists():
            seen = {"step": step + 1, **look(folder)}
            with (folder / "looks.jsonl").open("a") as log:
                log.write(json.dumps(seen) + "\n")
    if workers > 1:
        dist.destroy_process_group()


def _draw_batch(step: int, batch: int, seed: int, clips: list[Clip], text: Text) -> dict[str, Tensor]:
    """All that is random in a step, for the whole batch: it hangs on the seed and the step alone."""
    rng = torch.Generator().manual_seed(seed * 2_000_003 + step)
    draw = np.random.default_rng([seed, step])
    # Each pass over the clips is a permutation of its own.
    epoch, offset = divmod(step * batch, len(clips) - len(clips) % batch)
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed + 77 * epoch))
    pick = order[offset : offset + batch]
    rows = [int(draw.choice(text.rows[clips[i].identity, clips[i].aspect])) for i in pick.tolist()]
    rows = [0 if drop else row for row, drop in zip(rows, draw.random(batch) < DROP_CAPTION, strict=True)]
    # Half-way between even on a log scale and always full: the default of the pipelines is PADS[1].
    padded_to = np.exp(draw.uniform(np.log(PADS[0]), np.log(PADS[1] * 4), batch)).clip(max=PADS[1])
    return {
        "pick": pick,
        "rows": torch.tensor(rows),
        "padded_to": torch.from_numpy(padded_to).float(),
        "keep": torch.rand(batch, generator=rng) >= DROP_IMAGE,
        "sigma": sample_sigmas(batch, rng),
        "noise": torch.randn(batch, *LATENT_SHAPE, generator=rng),
    }


def _share_gradients(named: list[tuple[str, torch.nn.Parameter]], workers: int) -> None:
    grads = [p.grad for _, p in named if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for grad, mean in zip(grads, flat.div_(workers).split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def _mean(losses: list[tuple[float, float, bool]]) -> float:
    return round(sum(x[0] for x in losses) / len(losses), 4) if losses else float("nan")
