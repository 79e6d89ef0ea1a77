# SPDX-License-Identifier: Apache-2.0
"""Says what is missing before VERSION can be released from this folder: `python3 packaging/release.py VERSION`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def missing(version: str) -> Iterator[str]:
    head = re.search(r"(?m)^## (.*)$", Path("NEWS.md").read_text())
    if not (head and re.fullmatch(rf"{re.escape(version)}, \d{{4}}-\d\d-\d\d", head[1])):
        yield f'NEWS.md: its first section is not headed "## {version}, YYYY-MM-DD"'
    changelog = Path("packaging/debian/changelog").read_text()
    if not changelog.startswith(f"vfagent ({version}-"):
        yield f"packaging/debian/changelog: its first entry is not for {version}"
    if _git("status", "--porcelain"):
        yield "there are changes that are not committed: git status"
    if _git("tag", "--list", f"v{version}"):
        yield f"there is a tag v{version}: write the next version into vfagent/__init__.py and the changelog"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def main(version: str) -> int:
    problems = list(missing(version))
    for problem in problems:
        print(f"cannot release {version}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
