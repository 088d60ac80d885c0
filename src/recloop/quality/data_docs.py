"""Data Docs that open on their own: no style sheet, script, font or picture from anywhere else.

Great Expectations' own pages draw their tables with scripts from ten hosts on the internet: without it the
index is empty, and with it those hosts learn of every look. These pages hold the same content in plain HTML.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from great_expectations.render.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader

from recloop.errors import GateError
from recloop.files import replace_folder

TEMPLATES = Path(__file__).with_name("templates")
SITE = "recloop"


class Page(DefaultJinjaPageView):  # type: ignore[misc]
    """A suite, or a table's results."""

    def __init__(self, verdict: Iterable[str] = (), **directories: str | None) -> None:
        super().__init__(**directories)
        self.env.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), self.env.loader])
        self.env.globals["verdict"] = list(verdict)


class IndexPage(Page, DefaultJinjaIndexPageView):  # type: ignore[misc]
    """The list of suites and results, below the verdict."""

    _template = DefaultJinjaIndexPageView._template


def build_site(context: Any, folder: Path, verdict: Iterable[str]) -> None:
    """Write the pages of everything in `context` into `folder`, in place of what was there."""
    logger = logging.getLogger("great_expectations")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # on a full disk it would show a traceback a page, before the error that says so
    try:
        replace_folder(folder, lambda new: _build(context, new, list(verdict)))
    finally:
        logger.setLevel(before)


def _build(context: Any, folder: Path, verdict: list[str]) -> None:
    page = {"module_name": __name__, "class_name": Page.__name__}
    context.add_data_docs_site(
        SITE,
        {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
            "site_index_builder": {
                "class_name": "DefaultSiteIndexBuilder",
                "view": {"module_name": __name__, "class_name": IndexPage.__name__, "verdict": verdict},
            },
            "site_section_builders": {
                "expectations": {"view": page},
                "validations": {"view": page},
                "profiling": "None",
            },
        },
    )
    context.build_data_docs(site_names=[SITE])
    # What Great Expectations cannot draw it logs and leaves out.
    suites = [suite.name for suite in context.suites.all()]
    pages = [f"{section}/{name}" for name in suites for section in ("expectations", "validations")]
    missing = [page for page in ["index", *pages] if not list(folder.glob(f"{page}*"))]
    if missing:
        raise GateError(
            f"Great Expectations could not write {', '.join(missing)} of its Data Docs",
            remedy="its own log, above, says why; nothing else was changed",
        )
    shutil.rmtree(folder / "static")
