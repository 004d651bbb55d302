"""Writes the reference page of families from the table in code: `python -m prior_engine.models.reference`."""

from prior_engine.models.families import FAMILIES, REFUSED_PIPELINES, REFUSED_SOLVERS, Family

_HEAD = """# Families

Written from the table in `prior_engine/models/families.py` by `python -m prior_engine.models.reference`.

*Exact* means: a run that is resumed after any step with the same prompt gives the same bits as a run that never stopped,
and the full run gives the same bits as the plain diffusers pipeline. Both are proven for every row on tiny models
(`tests/test_engine/test_families.py`), in fp32 and bf16, on a CPU.

## Supported

| family | pipeline | makes | inputs beside the prompt | batches | step caches | notes |
|---|---|---|---|---|---|---|
"""

_SOLVERS = """
## Solvers

| solver | grids | what a snapshot holds beside the latents |
|---|---|---|
| `FlowMatchEulerDiscreteScheduler` | wan, diffusers, explicit | with `stochastic_sampling` the random state |
| `FlowMatchLCMScheduler` | wan, diffusers, explicit | random state |
| `FlowMatchHeunDiscreteScheduler` | wan, diffusers, explicit | derivative and sample between the two evaluations of a step |
| `UniPCMultistepScheduler` | wan, diffusers, explicit | model outputs and last sample |
| `DPMSolverMultistepScheduler` | wan, diffusers, explicit | model outputs; the SDE forms also the random state |
| `DEISMultistepScheduler` | diffusers | model outputs |
| `CogVideoXDDIMScheduler` | diffusers, explicit timesteps at even strides | nothing |

Any other diffusers solver is tried as it is: its history is found by comparison, and refused by name where it cannot be
stored.
"""


def render() -> str:
    """The whole page."""
    rows = [_row(family) for family in FAMILIES]
    refused = [f"| `{one.name}` | {one.reason} |" for one in (*REFUSED_PIPELINES, *REFUSED_SOLVERS)]
    head = "\n## Refused\n\n| pipeline or solver | why |\n|---|---|\n"
    return _HEAD + "\n".join(rows) + "\n" + _SOLVERS + head + "\n".join(refused) + "\n"


def _row(family: Family) -> str:
    needed = [f"{name} (needed)" for name in sorted(family.needs)]
    inputs = needed + sorted(family.takes - family.needs)
    cells = (
        f"`{family.name}`",
        f"`{family.pipeline}`",
        f"{family.label} ({family.media}, exact)",
        ", ".join(inputs) or "none",
        "yes" if family.single_batch is None else f"no: {family.single_batch}",
        _caches(family),
        family.notes or "-",
    )
    return f"| {' | '.join(cells)} |"


def _caches(family: Family) -> str:
    if family.no_cache is not None:
        return f"no: {family.no_cache}"
    if family.no_block_cache is not None:
        return f"only taylorseer, and pab at guidance 1: {family.no_block_cache}"
    return "all but pab with guidance above 1" if family.guides_in_two_calls else "yes"


if __name__ == "__main__":
    print(render(), end="")
