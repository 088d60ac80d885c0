"""The report on disk: `reports/drift/<time>/report.html` for people, and `report.json`, Evidently's snapshot.

`arrival` and `lists` stand beside them where there was something to compare them with.
`reports/drift/latest.html` leads to the newest report. Every page opens without a network.
"""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.moments import from_micros
from recloop.errors import RecloopError
from recloop.files import replace_folder, replacing

PAGE = "report"
TITLES = {PAGE: "The events", "arrival": "How they came in", "lists": "The served lists"}


def write_report(folder: Path, at: int, pages: Mapping[str, Any], heading: str, keep: int) -> Path:
    """Write one report, and remove those that are older than the newest `keep`.

    Args:
        folder: `reports/drift`.
        at: µs since 1970: the report's name.
        pages: `report`, and `lists` where there is one → Evidently snapshot.
        heading: what stands above every page, as plain text.
        keep: at least 1.

    Returns:
        The path of `report.html`.
    """
    name = from_micros(at).strftime("%Y%m%dT%H%M%S.%fZ")

    def fill(new: Path) -> None:
        for page, snapshot in pages.items():
            text = _with_heading(snapshot.get_html_str(as_iframe=False), heading, [p for p in pages if p != page])
            (new / f"{page}.html").write_text(text, encoding="utf-8")
            (new / f"{page}.json").write_text(snapshot.dumps(), encoding="utf-8")

    replace_folder(folder / name, fill)
    with replacing(folder / "latest.html") as part:
        part.write_text(_redirect(f"{name}/{PAGE}.html"), encoding="utf-8")
    for old in sorted(path for path in folder.glob("????????T*Z") if path.is_dir())[:-keep]:
        shutil.rmtree(old)
    return folder / name / f"{PAGE}.html"


def _with_heading(page: str, heading: str, others: list[str]) -> str:
    """Evidently's page with our words on top: its own say nothing of verdict, window and model."""
    before, body, after = page.partition("<body>")
    if not body:
        raise RecloopError(
            "Evidently wrote a page without a body",
            remedy="install the version of Evidently in requirements.lock",
        )
    links = "".join(f'<p><a href="{other}.html">{TITLES[other]}</a></p>' for other in others)
    first, *rest = heading.splitlines()
    top = (
        '<header style="font: 15px/1.5 sans-serif; max-width: 1220px; margin: 24px auto 0; padding: 0 24px">'
        f'<h1 style="font-size: 20px; margin: 0 0 8px">{html.escape(first)}</h1>'
        + "".join(f"<p style='margin: 2px 0'>{html.escape(line.strip())}</p>" for line in rest)
        + f"{links}</header>"
    )
    return before + body + top + after


def _redirect(target: str) -> str:
    return f"""<!DOCTYPE html>
<meta charset="utf-8">
<title>Drift report</title>
<meta http-equiv="refresh" content="0; url={target}">
<a href="{target}">The newest drift report</a>
"""
