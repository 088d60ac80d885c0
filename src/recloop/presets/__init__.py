"""Settings for a known case, one YAML file each: key's path → value, for the keys that differ.

`recloop preset NAME` writes them into `params.yaml`. All else stays there as it is, comments included.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from ruamel.yaml import YAML

from recloop.errors import ConfigError
from recloop.params_file import change_params


def presets() -> dict[str, str]:
    """Name → what it is: the first line of its file, a comment."""
    texts = {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(".yaml")
    }
    return {name: texts[name].partition("\n")[0].removeprefix("# ") for name in sorted(texts)}


def apply_preset(name: str, path: Path) -> list[str]:
    """Write the settings of the preset `name` into the `params.yaml` at `path`.

    Returns:
        The change as lines of a unified diff; none where the file says all of it already.

    Raises:
        ConfigError: no preset is called that, or the file is not valid. It is left as it was.
    """
    known = presets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"no preset is called {name!r}{hint}", remedy=f"known presets: {', '.join(known)}")
    text = files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return change_params(path, YAML(typ="safe").load(text))
