"""The walks of a prior and of its variants in one picture, from real latents of the demo model: `python -m benchmarks.advice.walks`

Across lies the noise that is left. Upwards lies what a walk would end as if it went straight on from there (its own guess of the
end), on the line from the prior's end (0) to the end of a full run of the other prompt from the same noise (1).
"""

from __future__ import annotations

from pathlib import Path

import torch

from prior_engine import Conditioning, Engine, Identity, Keep, ModelSpec, ResumeOptions, RunOptions, Schedule, Snapshot

OUT = Path(__file__).parents[2] / "docs" / "images" / "walks.svg"
SOURCE = Path(__file__).parents[2] / "demo" / "weights" / "t2v"
IDENTITY = Identity(prompt="a red star stays still", seed=7, height=64, width=64, frames=9)
SCHEDULE = Schedule(num_inference_steps=20)
ASKED = "a red star moves to the left"
EARLY, LATE = 9, 13
EVERY = RunOptions(keep=Keep("all"))
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 60, 20, 30, 60
LOW, HIGH = -0.25, 1.25
COLOURS = {
    "prior": "#64748b",
    "full run": "#2563eb",
    "snapshot": "#d97706",
    "line": "#059669",
    "line, too late": "#86cfb4",
}


def told(prompt: str) -> Conditioning:
    """What the demo's rows are told."""
    return Conditioning(prompt=prompt, guidance=4.0)


def guesses(states: list[torch.Tensor], sigmas: list[float]) -> list[torch.Tensor]:
    """Of every step of an Euler walk, where it would end if it kept its direction."""
    found = []
    for here, there, noise, left in zip(states, states[1:], sigmas, sigmas[1:], strict=False):
        found.append(here - noise * (there - here) / (left - noise))
    return found


def walked(
    snapshots: list[Snapshot], origin: tuple[torch.Tensor, float] | None
) -> tuple[list[float], list[torch.Tensor]]:
    """Noise and guesses along a run; `origin` is where it began, if not at noise that nobody kept."""
    states, sigmas = [one.latents for one in snapshots], [one.sigma for one in snapshots]
    if origin is not None:
        states, sigmas = [origin[0], *states], [origin[1], *sigmas]
    return sigmas[:-1], guesses(states, sigmas)


def walks() -> dict[str, tuple[list[float], list[float]]]:
    """Every walk as noise and place between the two ends."""
    engine = Engine(ModelSpec(source=str(SOURCE), device="cpu"))
    prior = list(engine.record(IDENTITY, told(IDENTITY.prompt), SCHEDULE))
    full = list(engine.record(IDENTITY, told(ASKED), SCHEDULE))
    end, first = prior[-1], prior[0]
    # From the state after the first step and the prior's guess there the noise is known.
    (guess,) = guesses([first.latents, prior[1].latents], [first.sigma, prior[1].sigma])
    noise = (first.latents - (1 - first.sigma) * guess) / first.sigma

    def from_snapshot(step: int) -> tuple[list[float], list[torch.Tensor]]:
        found = engine.resume(prior[step], IDENTITY, told(ASKED), SCHEDULE, options=EVERY)
        return walked(list(found.kept), (prior[step].latents, prior[step].sigma))

    def on_line(step: int) -> tuple[list[float], list[torch.Tensor]]:
        found = engine.resume(end, IDENTITY, told(ASKED), SCHEDULE, how=ResumeOptions(line=step), options=EVERY)
        sigma = prior[step].sigma
        return walked(list(found.kept), ((1 - sigma) * end.latents + sigma * noise, sigma))

    kept = {
        "prior": walked(prior, None),
        "full run": walked(full, None),
        "snapshot": from_snapshot(EARLY),
        "line": on_line(EARLY),
        "line, too late": on_line(LATE),
    }
    way = full[-1].latents - end.latents
    return {
        name: (sigmas, [float(((guess - end.latents) * way).sum() / (way * way).sum()) for guess in seen])
        for name, (sigmas, seen) in kept.items()
    }


def at(sigma: float, place: float) -> tuple[float, float]:
    """A place in the picture: noise on the left."""
    across = LEFT + (1 - sigma) * (WIDTH - LEFT - RIGHT)
    return across, HEIGHT - BOTTOM - (place - LOW) / (HIGH - LOW) * (HEIGHT - TOP - BOTTOM)


def picture(found: dict[str, tuple[list[float], list[float]]]) -> str:
    """The walks as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for place, name in ((0, "the prior's end"), (1, "a full run's end")):
        (x, y), (until, _) = at(1, place), at(0, place)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{until}" y2="{y:.1f}" stroke="#cbd5e1" stroke-dasharray="4 4"/>')
        parts.append(f'<text x="{until}" y="{y - 6:.1f}" text-anchor="end" fill="#475569">{name}</text>')
    for tenth in range(0, 11, 2):
        x, y = at(tenth / 10, LOW)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#475569">{tenth / 10:g}</text>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle" fill="#475569">noise that is left (sigma)</text>'
    )
    for place, (name, (sigmas, places)) in enumerate(found.items()):
        points = [at(sigma, min(HIGH, max(LOW, one))) for sigma, one in zip(sigmas, places, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>' for x, y in points]
        parts.append(f'<rect x="{LEFT + 140 * place}" y="8" width="12" height="4" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{LEFT + 140 * place + 18}" y="15" fill="#0f172a">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    OUT.write_text(picture(walks()))
    print(OUT)
