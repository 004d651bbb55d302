"""Components whose weights lie elsewhere: in files with their makers' names, or in a folder of another model."""

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prior_engine.errors import ModelSourceError
from prior_engine.models.hub import files_of, names_files
from prior_engine.models.trusted import PICKLES
from prior_engine.models.weights.gguf_file import SUFFIX, read_gguf
from prior_engine.models.weights.header import read_header

_SHARD = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.safetensors)")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Where one component's weights lie: a folder in diffusers layout, or files that are one checkpoint together."""

    name: str
    folder: Path | None = None
    files: tuple[Path, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether it is a GGUF."""
        return any(file.suffix == SUFFIX for file in self.files)

    def shapes(self) -> Shapes:
        """What the files hold."""
        return {name: shape for file in self.files for name, shape in shapes_of(file).items()}


def renamed(name: str, table: Iterable[tuple[str, str]]) -> str:
    """The name after the first pattern of `table` that fits, or as it is."""
    for pattern, replacement in table:
        other, found = re.subn(pattern, replacement, name)
        if found:
            return other
    return name


def find_part(name: str, given: Iterable[str], *, offline: bool = True) -> Part:
    """The component that the paths and patterns name; whatever is missing, cut off or a pickle is told."""
    files: list[Path] = []
    for text in given:
        place = Path(text).expanduser()
        if place.is_dir():
            if not (place / "config.json").is_file():
                raise ModelSourceError(
                    f"model part {name!r}: {text!r} is a folder without a config.json; name its safetensors files, or a "
                    "component's folder in diffusers layout"
                )
            return Part(name=name, folder=place)
        found = [place] if place.is_file() else sorted(Path(path) for path in glob.glob(str(place)))  # noqa: PTH207
        if not found and names_files(text):
            found = files_of(text, offline=offline)
        if not found:
            raise ModelSourceError(f"model part {name!r}: there is no {text!r}")
        files += found
    for file in files:
        _check(name, file)
    _check_shards(name, files)
    return Part(name=name, files=tuple(files))


def refusal_of_pickle(file: Path) -> str:
    """What to do about weights in a pickle."""
    return f"{file.name!r} is a pickle, which can run code and is never opened here; convert it once: headstart models convert {file}"


def _check(name: str, file: Path) -> None:
    if file.suffix in PICKLES:
        raise ModelSourceError(f"model part {name!r}: {refusal_of_pickle(file)}")
    names = shapes_of(file)
    scaled = next((one for one in names if one.endswith(("scaled_fp8", "scale_weight"))), None)
    if scaled is not None:
        raise ModelSourceError(
            f"model part {name!r}: {file.name!r} holds weights that were scaled to eight bits ({scaled}), which is not read; "
            "take the file in bf16 or fp16, and set accel.quantization"
        )


def shapes_of(file: Path) -> Shapes:
    """Names and shapes of one file."""
    try:
        if file.suffix == SUFFIX:
            return {name: weight.shape for name, weight in read_gguf(file).weights.items()}
        with file.open("rb") as opened:
            return {name: tuple(entry["shape"]) for name, entry in read_header(opened).items()}
    except (ValueError, OSError, KeyError, TypeError) as problem:
        raise ModelSourceError(f"the file {str(file)!r} cannot be read: {problem}") from None


def _check_shards(name: str, files: list[Path]) -> None:
    """Of a checkpoint in several files all are needed."""
    for file in files:
        found = _SHARD.fullmatch(file.name)
        if found is None:
            continue
        start, _, count, end = found.groups()
        wanted = [f"{start}{number:05}-of-{count}{end}" for number in range(1, int(count) + 1)]
        missing = sorted(set(wanted) - {one.name for one in files})
        if missing:
            raise ModelSourceError(
                f"model part {name!r}: {missing[0]!r} is missing{f', and {len(missing) - 1} more' if len(missing) > 1 else ''}; "
                f"{file.name!r} is one of {int(count)} files that belong together"
            )
