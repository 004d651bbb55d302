"""The one door for configuration, and the one module that knows Hydra.

Override strings in, a frozen `Settings` tree out. Three groups take a value where others take a choice, because that is
what people mean: `sheet=my.csv`, `store=s3://bucket/x`, `model=/path/to/folder`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flows.meant import nearest, suggestion
from flows.needed import needed
from tasks.errors import SettingsError
from tasks.secrets import masked_setting
from tasks.settings import Settings

CONF_DIR = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("model", "schedule", "accel", "prior", "sheet", "store", "runner", "video", "server", "experiment")
# Where a value that is no choice of the group goes.
_VALUE_KEYS = {"sheet": "path", "store": "url", "model": "source"}
# Hydra keeps its state in a global, so composing is one at a time.
_LOCK = threading.Lock()


def choices(group: str) -> list[str]:
    """The YAML files of a group, those of the user's own folder among them."""
    return sorted(
        {path.stem for folder in (CONF_DIR, own_conf()) if folder for path in (folder / group).glob("*.yaml")}
    )


def own_conf() -> Path | None:
    """The folder that the user keeps own choices in, named by HEADSTART_CONF."""
    named = os.environ.get("HEADSTART_CONF")
    return Path(named).expanduser().resolve() if named else None


def _wrong_with_own_conf() -> Iterator[str]:
    folder = own_conf()
    if folder is None:
        return
    if not folder.is_dir():
        yield f"HEADSTART_CONF is {str(folder)!r}, which is no folder; make it, or unset the variable"
        return
    for file in sorted(folder.rglob("*.yaml")):
        place = file.relative_to(folder)
        if place.parent.as_posix() not in GROUPS:
            yield f"{str(file)!r} is in no group; put it into one of the folders {list(GROUPS)}"
        elif (CONF_DIR / place).exists():
            yield f"{str(file)!r} has the name of a choice that comes with Headstart; give it another"
        elif "${" in file.read_text(encoding="utf-8", errors="replace"):
            yield f"{str(file)!r} holds '${{', which would be filled in from the environment of this machine; write the value itself"


def compose_settings(overrides: Sequence[str] = ()) -> Settings:
    """Compose conf/ with `overrides` and validate; every problem in one error."""
    problems = list(_wrong_with_own_conf())
    lines = [line for line in (_hydra_line(text, problems) for text in overrides) if line]
    # A model of the user's own inherits nothing that was measured for the demo model.
    if any(line.startswith("model.source=") for line in lines) and not any(line.startswith("model=") for line in lines):
        lines.insert(0, "model=custom")
    if problems:
        raise SettingsError(_joined(problems))
    return settings_from_tree(_compose(lines))


def settings_from_tree(tree: dict[str, Any]) -> Settings:
    """Validate a plain tree; unknown keys and wrong choices are named with the right ones."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_joined([_said(item, tree) for item in error.errors()])) from None


def _hydra_line(text: str, problems: list[str]) -> str | None:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        if key in {*GROUPS, *_known_settings()}:
            problems.append(f"{key} has no value; write {key}=...")
        else:
            problems.append(
                f"{text!r} is not a setting; write key=value, for example sheet=my.csv schedule.num_inference_steps=20"
            )
        return None
    if key in GROUPS:
        if value in choices(key):
            return f"{key}={value}"
        if key in _VALUE_KEYS and value:
            return f"{key}.{_VALUE_KEYS[key]}={_quoted(value)}"
        if not value:
            own = f", or say what you have: {key}.{_VALUE_KEYS[key]}=..." if key in _VALUE_KEYS else ""
            problems.append(f"{key}= has no value; choose one of {choices(key)}{own}")
            return None
        problems.append(f"{key}={value}: no such choice{nearest(value, choices(key))}; choose one of {choices(key)}")
        return None
    if key == "guard" and value in {"on", "off"}:
        return f"++guard.enabled={'true' if value == 'on' else 'false'}"
    known = _known_settings()
    if key not in known and not _inside_mapping(key):
        near = suggestion(key, [*known, *GROUPS])
        problems.append(f"{key}: no such setting{near}; `headstart config --keys` lists all")
        return None
    if "${" in value and value[:1] in "[{":
        problems.append(
            f"{key}: holds '${{', which would be filled in from the environment of this machine; write the value itself"
        )
        return None
    # ++ sets keys that only the Python tree knows a default of, and leaves the checking to it.
    as_it_is = _is_structured(value) and not (
        key in known and _takes_text_alone(known[key]) and value.lower() != "null"
    )
    return f"++{key}={value if as_it_is else _quoted(value)}"


def _compose(lines: Sequence[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
    from yaml import YAMLError

    with _LOCK:
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
                config = compose("config", overrides=[*lines, *_where_to_look()])
            tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise SettingsError(f"{error.full_key} has no value here and needs one: {error.full_key}=...") from None
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            said = " ".join(str(error).split())
            raise SettingsError(
                f"the configuration cannot be composed: {said}; the overrides were {[masked_setting(line) for line in lines]}"
            ) from None
        finally:
            GlobalHydra.instance().clear()
    if not isinstance(tree, dict):
        raise SettingsError(f"the configuration is a {type(tree).__name__} and must be a mapping; see conf/config.yaml")
    plain = {str(key): value for key, value in tree.items()}
    plain.pop("experiment", None)
    return plain


def _where_to_look() -> list[str]:
    folder = own_conf()
    return [] if folder is None else [f"hydra.searchpath=[{json.dumps(f'file://{folder}')}]"]


def _is_structured(value: str) -> bool:
    """Lists, mappings, numbers, null and booleans go to Hydra as they are; anything else is text."""
    if value[:1] in "[{" and value[-1:] in "]}":
        return True
    if value.lower() in {"null", "true", "false"}:
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def _quoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value.replace("${", "\\${")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def known_settings(model: type[BaseModel] = Settings, prefix: str = "") -> list[tuple[str, Any]]:
    """Every key of the tree with its field, in order: what docs, completion and messages are made from."""
    found: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += known_settings(kind, f"{prefix}{name}.")
        else:
            found.append((prefix + name, field))
    return found


@cache
def _known_settings() -> dict[str, Any]:
    return dict(known_settings())


def _takes_text_alone(field: Any) -> bool:
    """A commit such as 12345e7 or a batch called 2026 is no number where only text is taken."""
    return set(get_args(field.annotation) or (field.annotation,)) <= {str, NoneType}


def _inside_mapping(key: str) -> bool:
    return any(
        key.startswith(f"{open_ended}.")
        for open_ended in ("schedule.config", "accel.cache_options", "store.storage_options", "model.parts")
    )


def _said(item: Any, tree: dict[str, Any]) -> str:
    """A problem in our words: pydantic's would name its own types, once for each alternative."""
    place = _place(item["loc"])
    field = _known_settings().get(place)
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden" and field is None:
        place = ".".join(str(part) for part in item["loc"])
        room = place.rpartition(".")[0]
        known = [key for key in (*_known_settings(), *GROUPS) if key.rpartition(".")[0] == room]
        return f"{place}: no such setting{suggestion(place, known)}; known here: {[key.rpartition('.')[2] for key in known]}"
    if not place:
        return message
    if item["type"] == "model_type" and field is None:
        return f"{place}: is {item['input']!r}; must be a mapping such as {{name: value}}"
    if item["type"] != "value_error" and field is not None and (wanted := needed(field.annotation, field.metadata)):
        return f"{place}: is {_at(place, tree)!r}; must be {wanted} ({field.description})"
    seen = "" if isinstance(item["input"], dict) or repr(item["input"]) in message else f", seen {item['input']!r}"
    return f"{place}: {message[:1].lower()}{message[1:]}{seen}"


def _place(parts: Sequence[Any]) -> str:
    """The setting that pydantic's path leads to; what follows is the alternative or the entry that it tried."""
    names = [str(part) for part in parts]
    keys = [".".join(names[:count]) for count in range(len(names), 0, -1)]
    return next((key for key in keys if key in _known_settings()), names[0] if names else "")


def _at(key: str, tree: Any) -> Any:
    for name in key.split("."):
        tree = tree[name]
    return tree


def _joined(problems: Sequence[str]) -> str:
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        return unique[0]
    return f"{len(unique)} problems in the settings, nothing was run:\n" + "\n".join(
        f"  {problem}" for problem in unique
    )
