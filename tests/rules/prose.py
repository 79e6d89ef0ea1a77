# SPDX-License-Identifier: Apache-2.0
"""The project's prose: its documents without code, and the docstrings and messages of the program.

`python3 -m tests.rules.prose` lists the words that neither a dictionary nor `vocabulary.txt` has.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.rules.project import ROOT, modules

VOCABULARY = Path(__file__).parent / "vocabulary.txt"
DICTIONARY = ("aspell", "--lang=en", "--encoding=utf-8", "list")

_FENCED = re.compile(r"(?ms)^( *)(`{3,}|~{3,}).*?^\1\2 *$")
_INDENTED = re.compile(r"(?m)^(?: {4}|\t).*$")
_SPAN = re.compile(r"`[^`]*`")
_TARGET = re.compile(r"\]\([^)]*\)")
_COMMENT = re.compile(r"(?s)<!--.*?-->")
# Their texts are for programs: scripts, HTML, and keys as people misspell them. Their docstrings are prose.
_NO_MESSAGES = {
    "vfagent/guests/spec/ipxe.py",
    "vfagent/guests/spec/ipxe_image.py",
    "vfagent/guests/spec/rom.py",
    "vfagent/metrics/http.py",
    "vfagent/policy/rewrites.py",
    "vfagent/policy/unknown_keys.py",
    "vfagent/service/control_interface.py",
}
# What is around a word: punctuation, Markdown's marks, brackets.
_AROUND = "*_|\\\"'()[]{}<>,;:.!?…–—→≤+“”‘’#-&=~/%"
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
# Names of code: vlan_id, IFLA_VF_VLAN, ens1f0, a.b, a/b, x=y, --json, vfAgent.
_NAME = re.compile(r"[0-9_./=:@$%\\*{}<>()\[\]&,]|[a-z][A-Z]|^-")


def documents() -> list[Path]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def without_code(text: str) -> str:
    """Each line keeps its number, and code becomes a word that no check objects to."""
    for block in (_FENCED, _COMMENT, _INDENTED):
        text = block.sub(lambda match: "\n" * match[0].count("\n"), text)
    text = _SPAN.sub(lambda match: "code" + "\n" * match[0].count("\n"), text)
    return _TARGET.sub("]", text)


def without_names(text: str) -> str:
    """Headings end as sentences do, and names of code become marks, so that no phrase seems to be repeated."""
    text = re.sub(r"(?m)^#+ (.*[^.?!])$", r"\1.", text)
    return re.sub(r"\S+", lambda match: "§" if _NAME.search(match[0].strip(_AROUND)) else match[0], text)


def sentences(text: str) -> Iterator[str]:
    """Paragraphs, items of a list and cells of a table in sentences; a semicolon or a colon ends one, too."""
    for part in re.split(r"\n\s*\n|\n(?= *[-*|#:]|\d+\. )| \| ", text):
        yield from (" ".join(sentence.split()) for sentence in re.split(r"(?<=[.!?:;])\s+", part))


def words(text: str) -> Iterator[str]:
    """The words of a language, without names of code and without possessives."""
    for token in text.split():
        bare = token.strip(_AROUND)
        if not _NAME.search(bare) and not token.startswith("-"):
            for word in _WORD.findall(bare):
                yield word.removesuffix("'s")


def prose_of(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A module's docstrings, and its messages: texts of two words or more. An f-string's values are left out."""
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if " " in text.strip():
                if id(node) in statements or path not in _NO_MESSAGES:
                    yield node.lineno, without_code(text)


def misspelt(words_of: set[str]) -> set[str]:
    known = {line.lower() for line in VOCABULARY.read_text().splitlines() if not line.startswith("#")}
    asked = "\n".join(sorted(word for word in words_of if word.lower() not in known))
    return set(subprocess.run(DICTIONARY, input=asked, capture_output=True, text=True, check=True).stdout.split())


def misspelt_by_place() -> list[str]:
    texts = [(str(path.relative_to(ROOT)), without_code(path.read_text())) for path in documents()]
    for path, tree in modules().items():
        texts += [(f"{path}:{line}", text) for line, text in prose_of(path, tree)]
    wrong = misspelt({word for _, text in texts for word in words(text)})
    return [f"{place}: {word}" for place, text in texts for word in sorted(set(words(text)) & wrong)]


if __name__ == "__main__":
    print("\n".join(misspelt_by_place()))
