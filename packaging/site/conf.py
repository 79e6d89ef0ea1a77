# SPDX-License-Identifier: Apache-2.0
"""The site of the documents, by Sphinx: `make docs`.

The sources are the Markdown files as they lie in the tree, so that the same links work here, on a Git host and in the
package. Sphinx and not MkDocs, whose last release is of 2024 and whose theme Material is in maintenance.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]

project = "vfagent"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "packaging/man/*.md", "packaging/*/README.md", "packaging/monitoring/*.md"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
highlight_language = "text"
smartquotes = False  # `--json` is two hyphens
html_theme = "furo"
html_title = "vfagent"
html_copy_source = False

_LINK = re.compile(r"\[([^]]*)\]\(([^()#\s]+)(#[^()\s]*)?\)")


def contents() -> str:
    """The tables of docs/README.md as the site's contents: a table is a part, its links are the pages."""
    seen: set[str] = set()
    parts = ["```{toctree}\n:hidden:\n\ndocs/README\n```"]
    for table in (ROOT / "docs/README.md").read_text().split("\n\n"):
        if not table.startswith("| "):
            continue
        caption = table.split("|")[1].strip()
        files = [(ROOT / "docs" / target).resolve() for _, target, _ in _LINK.findall(table)]
        pages = [str(file.relative_to(ROOT).with_suffix("")) for file in files if file.suffix == ".md"]
        new = [page for page in dict.fromkeys(pages) if page not in seen]
        seen.update(new)
        parts.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *new, "```"]))
    return "\n\n".join(parts)


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """A manual page has a title; a link to a folder, which the site does not have, is its text."""
    del app
    text = source[0]
    if title := re.match(r"% ([A-Z.-]+\(\d\))", text):
        text = f"# {title[1].lower()}\n\n" + re.sub(r"(?m)^#", "##", text)
    folder = (ROOT / name).parent
    text = _LINK.sub(lambda link: f"`{link[1]}`" if (folder / link[2]).is_dir() else link[0], text)
    source[0] = f"{text}\n\n{contents()}\n" if name == root_doc else text


def setup(app: Sphinx) -> None:
    app.connect("source-read", prepare)
