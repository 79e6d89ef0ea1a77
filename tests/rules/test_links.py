# SPDX-License-Identifier: Apache-2.0
"""Each relative link of each Markdown file leads to a file, and to a heading of it, as GitHub names headings."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.project import ROOT, none_of

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"(?m)^#{1,6} +(.+?)#* *$")
NAMED = re.compile(r'<a (?:name|id)="([^"]+)"')
OTHER_SITE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
# Text in code is no link and no heading.
FENCED = re.compile(r"(?ms)^( *)(`{3,}|~{3,}).*?^\1\2 *$")
INDENTED = re.compile(r"(?m)^(?: {4}|\t).*$")
SPAN = re.compile(r"`[^`\n]+`")


def documents() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page: lower case, without punctuation, a hyphen for each space."""
    text = FENCED.sub("", text)
    names: set[str] = set(NAMED.findall(text))
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip()
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        same = sum(1 for other in names if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        names.add(f"{name}-{same}" if same else name)
    return names


def broken(path: Path) -> Iterator[str]:
    prose = SPAN.sub("", INDENTED.sub("", FENCED.sub("", path.read_text())))
    for target in LINK.findall(prose):
        if OTHER_SITE.match(target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            yield f"{path.name}: {target}: no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"{path.name}: {target}: no such heading"


def test_each_link_leads_to_a_file_and_a_heading() -> None:
    paths = documents()
    assert len(paths) > 20
    none_of([problem for path in paths for problem in broken(path)])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](missing.md)", "no such file"),
        ("[x](page.md#nowhere)", "no such heading"),
        ("[x](#nowhere)", "no such heading"),
        ("[x](page.md#a-pf-is-stuck)", None),
        ("[x](page.md#twice-1)", None),
        ("[x](page.md#named)", None),
        ("# My `vfs = 4`\n[x](#my-vfs--4)", None),
        ("[x](https://example.org/missing.md#y)", None),
        ("`[x](missing.md)`\n\n    [x](missing.md)\n\n```\n[x](missing.md)\n```\n", None),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, text: str, problem: str | None) -> None:
    page = '# A PF is *stuck*!\n\n## Twice\n\n## Twice\n\n<a name="named"></a>\n\n```\n# nowhere\n```\n'
    (tmp_path / "page.md").write_text(page)
    document = tmp_path / "text.md"
    document.write_text(text)
    problems = list(broken(document))
    assert [line.rpartition(": ")[2] for line in problems] == ([problem] if problem else [])
