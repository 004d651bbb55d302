"""What weights that were distilled for one walk cannot be told: another guidance, other steps."""

from __future__ import annotations

from tasks.settings import Settings

ITS_OWN_STEPS = "weights for this schedule know its own steps only (schedule.tails=exact)"


def refused_by(settings: Settings) -> list[str]:
    """The settings that contradict the schedule."""
    problems = [
        f"setting {name}: {refusal}"
        for name, value in (("guidance", settings.guidance), ("prior.guidance", settings.prior.guidance))
        if (refusal := guidance_refusal(settings, value)) is not None
    ]
    if settings.schedule.tails == "exact" and settings.tail not in {"auto", "exact"}:
        problems.append(f"setting tail: {settings.tail} re-spaces the steps, and {ITS_OWN_STEPS}; give tail=exact")
    return problems


def guidance_refusal(settings: Settings, asked: float | None) -> str | None:
    """Why the schedule cannot be walked with the guidance that was asked for, if so."""
    fixed = settings.schedule.guidance
    if fixed is None or asked is None or asked == fixed:
        return None
    return (
        f"{asked:g} was asked for, and weights for this schedule were distilled with {fixed:g}: with any other they blur; "
        "leave it out, or choose another schedule"
    )
