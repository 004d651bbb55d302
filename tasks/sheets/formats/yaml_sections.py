"""YAML: a list of rows, or sections with rows, identities and lists. Read without object tags, and measured first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import yaml

from tasks.errors import SheetError
from tasks.sheets.raw import MAX_DEPTH, RawRow, SheetFile, cut, named_row, once_each, shown, too_deep

# What a file may come to with all its aliases written out: far more than the largest use of them, far less than memory.
_MAX_WRITTEN_OUT = 16 * 2**20
_EACH = 10
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # fast where libyaml is there
    """Plain values only. What cannot be one stays text, and its column says what it needs."""


def _or_text(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def one(loader: Any, node: Any) -> Any:
        if len(node.value) > 100:
            return node.value
        try:
            return construct(loader, node)
        except (ValueError, OverflowError, LookupError, AttributeError):
            # The library takes it for granted that what is tagged as a number has digits, a day its dashes.
            return node.value

    return one


for _kind in ("bool", "int", "float", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _or_text(getattr(yaml.SafeLoader, f"construct_yaml_{_kind}")))


def yaml_file(text: str, name: str, root: str, max_rows: int) -> SheetFile:
    """The whole file, with one row more than `max_rows` at most: its sections are read together."""
    try:
        _measure(yaml.parse(text, Loader=_Loader), max(_MAX_WRITTEN_OUT, _EACH * len(text)), name)
        loader = _Loader(text)
        try:
            return _sheet(loader, name, root, max_rows)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SheetError(
            f"{name}{line}: not plain YAML ({cut(getattr(error, 'problem', None) or error)}); object tags are refused"
        ) from None
    except RecursionError:
        raise SheetError(f"{name}: too many mappings are merged into each other with <<; write them out") from None


def _measure(events: Iterable[Any], limit: int, name: str) -> None:
    """Refuse what is nested too deeply, or would be huge with its aliases written out, before anything is built."""
    sizes: dict[str | None, int] = {}
    around: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, _EACH + len(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            around.append((event.anchor, _EACH))
            if len(around) > MAX_DEPTH:
                raise too_deep(f"{name}:{line}")
            continue
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == open_ for open_, _ in around):
                raise SheetError(f"{name}:{line}: *{event.anchor} stands within what it names; write out what is meant")
            anchor, size = None, _EACH + sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = around.pop()
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        around[-1] = around[-1][0], around[-1][1] + size
        if around[-1][1] > limit:
            raise SheetError(
                f"{name}:{line}: would be more than {limit} characters long up to here with its aliases (*) written out; use fewer"
            )


def _sheet(loader: Any, name: str, root: str, max_rows: int) -> SheetFile:
    node = loader.get_single_node()
    if node is None:
        raise SheetError(f"{name}: is empty; it needs a list of rows, or a mapping with rows:")
    _once_each(node, name)
    sections = {"rows": node} if isinstance(node, yaml.SequenceNode) else _sections(loader, node, name)
    rows = sections.get("rows")
    if not isinstance(rows, yaml.SequenceNode):
        raise SheetError(f"{name}: rows: must be a list, each item a mapping with identity and prompt")
    return SheetFile(
        name=name,
        root=root,
        rows=tuple(_row(loader, item, name) for item in rows.value[: max_rows + 1]),
        identities=_identities(loader, sections.get("identities"), name),
        lists=_lists(loader, sections.get("lists"), name),
    )


def _once_each(root: Any, name: str) -> None:
    """Refuse a mapping that says a thing twice. Before anything is merged into anything: that may well overrule."""
    seen: set[int] = set()
    open_ = [root]
    while open_:
        node = open_.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            open_ += node.value
            continue
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        once_each((key.value for key in keys), f"{name}:{node.start_mark.line + 1}")
        open_ += [part for pair in node.value for part in pair]


def _sections(loader: Any, node: Any, name: str) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise SheetError(f"{name}: must be a list of rows, or a mapping with rows:, identities:, lists:")
    found = {str(loader.construct_object(key)): value for key, value in node.value}
    unknown = sorted(set(found) - {"rows", "identities", "lists"})
    if unknown:
        raise SheetError(
            f"{name}: unknown sections {shown(unknown)}; the known ones are ['identities', 'lists', 'rows']"
        )
    return found


def _row(loader: Any, item: Any, name: str) -> RawRow:
    place = f"{name}:{item.start_mark.line + 1}"
    cells = loader.construct_object(item, deep=True)
    if not isinstance(cells, dict):
        raise SheetError(f"{place}: is a {type(cells).__name__}; must be a mapping with identity and prompt")
    return named_row(place, cells)


def _identities(loader: Any, node: Any, name: str) -> dict[str, RawRow]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise SheetError(f"{name}:{node.start_mark.line + 1}: identities: must map each name to its columns")
    return {str(loader.construct_object(key)): _row(loader, value, name) for key, value in node.value}


def _lists(loader: Any, node: Any, name: str) -> dict[str, tuple[str, ...]]:
    if node is None:
        return {}
    lists = loader.construct_object(node, deep=True)
    if not isinstance(lists, dict) or not all(isinstance(values, list) and values for values in lists.values()):
        raise SheetError(f"{name}:{node.start_mark.line + 1}: lists: must map each name to a list that is not empty")
    return {str(key): tuple(str(value) for value in values) for key, values in lists.items()}
