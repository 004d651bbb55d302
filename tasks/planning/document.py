"""A plan and its settings as plain data: for plan.json, `headstart plan --json` and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.planning.plan import Plan
from tasks.secrets import mask, masked
from tasks.settings import Settings


def plan_document(plan: Plan, batch: str, sheet_digest: str) -> dict[str, Any]:
    """All that a reader wants to know of a plan."""
    used = {row.prior_key for row in plan.variants if not row.way.is_full} | plan.wanted_priors
    return {
        "batch": batch,
        "sheet": mask(plan.sheet_name),
        "sheet_digest": sheet_digest,
        "model": dict(plan.model),
        "schedule": dict(plan.schedule),
        "start_step": plan.start.start_step,
        "start_step_from": plan.start_from,
        "start": plan.start.start,
        "full_steps": plan.full_steps,
        "steps_to_run": plan.steps_to_run,
        "steps_from_scratch": plan.steps_from_scratch,
        "priors": [
            {
                "key": prior.key,
                "identity": prior.name,
                "prompt": prior.identity.prompt,
                "seed": prior.identity.seed,
                "cached": prior.cached,
                # Whether a row starts from it: rows of a prior that is not used are full runs.
                "used": prior.key in used,
            }
            for prior in plan.priors
        ],
        "rows": [
            {
                "id": variant.row_id,
                "key": variant.key,
                "identity": variant.name,
                "label": variant.label,
                "prior": variant.prior_key,
                "parent": variant.parent_key or None,
                "prompt": variant.conditioning.prompt,
                "start_step": None if variant.way.is_full else variant.start_step,
                "tail": variant.way.tail,
                "start": variant.way.start,
                "sigma": variant.sigma,
                "guidance": variant.conditioning.guidance,
                "steps": variant.steps,
                "tags": list(variant.tags),
                "cached": variant.cached,
                "place": variant.place,
            }
            for variant in plan.variants
        ],
        "warnings": list(plan.warnings),
    }


def settings_yaml(settings: Settings, notes: Mapping[str, str] | None = None) -> str:
    """The settings as YAML in their own order, readable in any language; secrets hidden.

    `notes` puts a comment beside a value: `{"model.fps": "why"}`.
    """
    import yaml

    text = yaml.safe_dump(masked(settings.model_dump(mode="json")), sort_keys=False, allow_unicode=True, width=120)
    lines, group = [], ""
    for line in text.split("\n"):
        name = line.partition(":")[0]
        if not line.startswith((" ", "-")):
            group = name
        note = (notes or {}).get(f"{group}.{name.strip()}")
        lines.append(line if note is None else f"{line}  # {note}")
    return "\n".join(lines)
