"""Changing values in `params.yaml` as a person would: comments, order and layout stay, so that `git diff` shows the
change and nothing else."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.util import load_yaml_guess_indent

from recloop.config import Params, load_params, validated
from recloop.errors import ConfigError
from recloop.files import replacing


def change_params(path: Path, changes: Mapping[str, Any], *, write: bool = True) -> list[str]:
    """Set values of the file, sections on the way to them being made where they are missing.

    Args:
        path: `params.yaml`.
        changes: the key's path → its value, e.g. `models.sasrec.dim` → 128.
        write: false only says what would be changed.

    Returns:
        The change as lines of a unified diff; none where the file says all of it already.

    Raises:
        ConfigError: the file is not valid, before or after the change. It is left as it was.
    """
    load_params(path)
    text = path.read_text(encoding="utf-8")
    yaml = _yaml(text)
    content = yaml.load(text)
    before = _dump(yaml, content)
    for key, value in changes.items():
        _set(content, key, value)
    after = _in_its_layout(text, before, _dump(yaml, content))
    validated(Params, YAML(typ="safe").load(after), where=path.name)
    lines = [
        line.rstrip("\n")
        for line in difflib.unified_diff(
            text.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path.name}", f"b/{path.name}"
        )
    ]
    if lines and write:
        with replacing(path) as part:
            part.write_text(after, encoding="utf-8")
    return lines


def _set(content: CommentedMap, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    section, passed = content, ""
    for each in sections:
        passed += f".{each}" if passed else each
        if section.get(each) is None:
            section[each] = _like(section)
        section = section[each]
        if not isinstance(section, CommentedMap):
            raise ConfigError(f"{key} cannot be set: {passed} is a value, not a section", remedy="correct the key")
    old = section.get(name)
    if name not in section or _plain(old) != value or isinstance(old, bool) != isinstance(value, bool):
        section[name] = _node(value, old if isinstance(old, CommentedMap) else section)


def _plain(value: Any) -> Any:
    """Without layout."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _node(value: Any, neighbour: CommentedMap) -> Any:
    """`value` in the style of its neighbour: on one line, or a line a key."""
    if isinstance(value, Mapping):
        node = _like(neighbour)
        for key, each in value.items():
            node[key] = _node(each, node)
        return node
    if isinstance(value, list | tuple):
        items = CommentedSeq(_node(each, neighbour) for each in value)
        items.fa.set_flow_style()
        return items
    return value


def _like(neighbour: CommentedMap) -> CommentedMap:
    section = CommentedMap()
    if neighbour.fa.flow_style():
        section.fa.set_flow_style()
    return section


def _in_its_layout(text: str, before: str, after: str) -> str:
    """`after`, with each line that the change does not concern as it is in `text`: the YAML writer has a layout of its
    own, and `before` is `text` in that layout."""
    own, old, new = (each.splitlines(keepends=True) for each in (text, before, after))
    if len(own) != len(old):
        return after
    lines: list[str] = []
    for what, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        lines += own[start:end] if what == "equal" else new[new_start:new_end]
    merged = "".join(lines)
    try:
        same = YAML(typ="safe").load(merged) == YAML(typ="safe").load(after)
    except YAMLError:
        return after
    return merged if same else after


class _Representer(RoundTripRepresenter):
    """Writes `null`, where ruamel writes nothing."""

    def represent_null(self, _: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_null)


def _yaml(text: str) -> YAML:
    """A reader and writer that indents as `text` does."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10**6  # no line is broken anew
    yaml.Representer = _Representer
    _, sequence, offset = load_yaml_guess_indent(text)
    mapping = min((len(spaces) for spaces in re.findall(r"^( +)[^\s#-]", text, re.MULTILINE)), default=2)
    yaml.indent(mapping=mapping, sequence=sequence or mapping, offset=offset or 0)
    return yaml


def _dump(yaml: YAML, content: CommentedMap) -> str:
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()
