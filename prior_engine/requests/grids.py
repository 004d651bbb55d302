"""The laws by which noise levels are laid. Plain numbers."""


def shifted(sigma: float, shift: float) -> float:
    """The shift law of flow matching: more of the walk is spent where there is more noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def unshifted(sigma: float, shift: float) -> float:
    """The inverse of `shifted`."""
    return sigma / (shift - (shift - 1) * sigma)


def wan_grid(steps: int, shift: float, strength: float = 1.0) -> tuple[float, ...]:
    """The reference grid of Wan: shift(linspace(strength, 0, steps + 1)[:-1])."""
    return tuple(shifted(strength * (1 - index / steps), shift) for index in range(steps))


def tail_grid(sigma: float, steps: int, shift: float) -> tuple[float, ...]:
    """The noise left at `sigma`, walked to nothing in `steps` steps by the same shift law."""
    start = unshifted(sigma, shift)
    first, *others = wan_grid(steps, shift, start)
    del first  # equal to `sigma` up to rounding: the walk starts exactly where the snapshot stopped
    return (sigma, *others)
