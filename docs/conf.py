"""How Sphinx makes the site of docs/: `make docs`."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "link-webhook"
author = "link-webhook"
html_title = project
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["conf.py"]
myst_heading_anchors = 4
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
# A browser that shows files may not fetch pages, so a search shows titles only.
html_show_search_summary = False
# A block without a language is plain text.
highlight_language = "text"


def add_toctrees(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make each heading of a list of pages a part of the navigation, so that GitHub shows the same page without it."""
    if docname not in ("index", "adr/index"):
        return
    for part in source[0].split("\n## ")[1:]:
        caption, _, text = part.partition("\n")
        pages = re.findall(r"^- \[[^]]*\]\(([^):]+)\.md\)", text, re.MULTILINE)
        if pages:
            source[0] += "\n".join(["\n```{toctree}", f":caption: {caption}", ":hidden:", "", *pages, "```", ""])


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_toctrees)
