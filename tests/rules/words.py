# SPDX-License-Identifier: Apache-2.0
"""Words that this project does not use, and what it says instead: `python3 -m tests.rules.words [PATH…]` lists them.

A text is read as words: `log_look`, `LookResult` and "one look" all contain "look".
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Each retired word or phrase, by its lower-case words, and the field's word for it.
RETIRED = {
    "look": "reconcile, observe, or check",
    "looks": "reconciles, observes, or checks",
    "looked": "reconciled, observed, or checked",
    "looking": "reconciling",
    "tally": "counters",
    "telling": "log",
    "wedged": "stuck",
    "rehearse": "warm up",
    "rehearsed": "warmed up",
    "spare": "standby worker",
    "bury": "reap",
    "buried": "reaped",
    "errand": "worker call",
    "errands": "worker calls",
    "inquiry": "worker call",
    "newborn": "unmarked",
    "strangers": "foreign",
    "somebody's": "foreign",
    "ours": "managed",
    "hindrance": "blocker",
    "leg": "VLAN interface",
    "legs": "VLAN interfaces",
    "holder": "user (of a VF)",
    "holders": "users (of a VF)",
    "rival": "conflict",
    "rivals": "conflicts",
    "claim": "conflict",
    "claims": "conflicts",
    "second owner": "other manager",
    "awaited": "pending",
    "arriving": "pending",
    "undone": "remaining",
    "given up": "suspended",
    "gave up": "suspended",
    "known bad": "suspended",
    "passed over": "shadowed, or skipped",
    "kept status": "status cache",
    "early look": "preload",
    "survey": "list units",
    "pace": "throttle",
    "paced": "throttled",
    "lane": "parallel group",
    "lanes": "parallel groups",
    "chain": "parallel group",
    "chains": "parallel groups",
    "stages": "parallel groups",
    "examine": "gather facts",
    "examined": "gathered",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "in force": "active",
    "takes a policy": "loads a policy",
    "given back": "returned",
    "gives back": "returns",
    "is told": "is reported",
    "are told": "are reported",
    "is said": "is reported",
    "brought to": "configured by",
    "stands in the way": "blocks",
    "stand in the way": "block",
    "in the way of": "blocks",
    "hangs on": "depends on",
    "lets go": "releases, or closes",
    "speak of": "mention",
    "has a hand": "configures, too",
}
# Where the field itself uses the word.
ALLOWED = (
    "look up",
    "looks up",
    "looked up",
    "looking up",
    "look-up",
    "looks like",
    "look like",
    "itertools.chain",
    "import chain",
    "chain(",
    "critical-chain",
    "certificate chain",
    "/holders",
    "chain of certificates",
)
UNCLEAR_NAMES = {"one", "found", "said", "told"}
TREES = ("vfagent", "docs", "packaging", "config", "systemd", "udev", "tests")
# NEWS.md says what the old names were.
OWN = {"tests/rules/words.py", "tests/rules/test_words.py", "NEWS.md"}
TEXT = {
    "",
    ".py",
    ".catalog",
    ".md",
    ".toml",
    ".txt",
    ".json",
    ".yml",
    ".service",
    ".rules",
    ".network",
    ".target",
    ".conf",
    ".spec",
}

_WORD = re.compile(r"[A-Z]?[a-z]+(?:'s)?|[A-Z]+(?![a-z])")
_LONGEST = max(len(phrase.split()) for phrase in RETIRED)


def retired_in(line: str) -> list[str]:
    """The retired words and phrases of a line."""
    for allowed in ALLOWED:
        line = line.replace(allowed, " ")
    words = [word.lower() for word in _WORD.findall(line)]
    phrases = (" ".join(words[at : at + size]) for size in range(1, _LONGEST + 1) for at in range(len(words)))
    return sorted({phrase for phrase in phrases if phrase in RETIRED})


def unclear_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Variables and parameters that do not say what they are."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) if name in UNCLEAR_NAMES:
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) if name in UNCLEAR_NAMES:
                yield node.lineno, name


def files(paths: list[str]) -> Iterator[Path]:
    """The project's text files: its documents, and what is below `paths` or TREES."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *(paths or [*TREES, "*.md"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and name not in OWN and path.suffix in TEXT and path.is_file():
            yield path


def problems(paths: list[str]) -> Iterator[str]:
    for path in files(paths):
        text, name = path.read_text(errors="replace"), path.relative_to(ROOT)
        for number, line in enumerate(text.splitlines(), 1):
            yield from (f"{name}:{number}: {word}: say {RETIRED[word]}" for word in retired_in(line))
        if path.suffix == ".py":
            yield from (
                f"{name}:{line}: variable {word}: name it for what it is"
                for line, word in unclear_names(ast.parse(text))
            )


if __name__ == "__main__":
    print("\n".join(problems(sys.argv[1:])))
