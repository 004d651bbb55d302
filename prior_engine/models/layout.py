"""Where each component of a model lies and what it says of itself, whichever way the model is kept."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.fingerprint import fingerprint, fingerprint_of
from prior_engine.models.source import folder_of
from prior_engine.models.spec import ModelSpec
from prior_engine.models.trusted import check_files, read_json, trusted_components
from prior_engine.models.weights.gguf_file import check_gguf
from prior_engine.models.weights.original import Original, is_original
from prior_engine.models.weights.parts import Part, find_part
from prior_engine.models.weights.wan_shape import check_build


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """A model's index and components; `parts` are those that lie somewhere else than in `folder`, under their name."""

    source: str
    folder: Path
    commit: str | None
    index: Mapping[str, Any]
    components: Mapping[str, tuple[str, str]]
    parts: Mapping[str, Part] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def place(self, name: str) -> Path:
        """The component's folder. One that is files alone has none, and the folder is where its config would lie."""
        part = self.parts.get(name)
        return self.folder / name if part is None or part.folder is None else part.folder

    def files(self, name: str) -> tuple[Path, ...]:
        """The component's files, where it is no folder in diffusers layout."""
        return self.parts[name].files if name in self.parts else ()

    @property
    def packed(self) -> bool:
        """Whether a component comes in a GGUF, whose weights are packed already."""
        return any(part.packed for part in self.parts.values())

    def config(self, name: str) -> Mapping[str, Any]:
        """What the component says of itself."""
        if name in self.configs:
            return self.configs[name]
        return read_json(self.place(name) / ("scheduler_config.json" if name == "scheduler" else "config.json"))

    def fingerprint(self, names: Iterable[str] | None = None) -> str:
        """Digest of what is really loaded: all of it, or some components."""
        chosen = None if names is None else list(names)
        if not self.parts:
            return self._of_folder(chosen)
        whole = hashlib.sha256()
        wanted = list(self.components) if chosen is None else chosen
        if chosen is None:
            whole.update(repr(sorted((name, repr(value)) for name, value in self.index.items())).encode())
        for name in sorted(wanted):
            files, here = self.files(name), name not in self.parts
            said = (
                fingerprint_of(files) if files else self._of_folder([name]) if here else fingerprint(self.place(name))
            )
            whole.update(f"{name}\0{said}\0{sorted(self.configs.get(name, {}).items())!r}\n".encode())
        return whole.hexdigest()

    def _of_folder(self, names: list[str] | None) -> str:
        # A commit names all the bytes; nothing needs to be read.
        return fingerprint(self.folder, names) if self.commit is None else f"{self.source}@{self.commit}"


def layout_of(spec: ModelSpec) -> Layout:
    """Find the model, and the components that the spec takes from elsewhere."""
    given = {name: find_part(name, paths, offline=spec.offline) for name, paths in spec.parts}
    folder, commit = folder_of(spec)
    if is_original(folder):
        own = Original(folder, given)
        index, configs, parts = own.index, own.configs, own.parts | given
    else:
        index, configs, parts = read_json(folder / "model_index.json"), {}, given
    # What is replaced is not looked at: that it may be missing is often why it is replaced.
    components = trusted_components(index, folder, parts)
    strange = sorted(set(given) - set(components))
    if strange:
        raise ModelSourceError(f"the model has no component {strange[0]!r}; it has {sorted(components)}")
    layout = Layout(
        source=spec.source,
        folder=folder,
        commit=commit,
        index=index,
        components=components,
        parts=parts,
        configs=configs,
    )
    for name, part in parts.items():
        if part.packed:
            check_gguf(name, part.files, components[name][1], spec.quantization)
        if part.folder is not None:
            check_files(name, part.folder)
        elif components[name][1].startswith(("WanTransformer", "WanVACETransformer")):
            check_build(part, layout.config(name))
    return layout
