# SPDX-License-Identifier: Apache-2.0
"""The Debian package, built by `make deb` in a Debian 13 root."""

import hashlib
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from tests.lab.cache import built
from tests.lab.debian import Root, bootstrap, run_in
from tests.lab.install import REPOSITORY
from vfagent import __version__
from vfagent.frozen import frozen

SUITE = "trixie"
CONTROL = REPOSITORY / "packaging/debian/control"
TOOLS = (
    "dpkg-dev",
    "make",
    "lintian",
    "rpm",
    "rpmlint",
    "debhelper",
    "dh-python",
    "pandoc",
    "python3",
    "python3-tomli",
)
TREES = ("config", "docs", "packaging", "systemd", "udev", "vfagent")
DOCUMENTS = ("README.md", "DESIGN.md", "HACKING.md", "CONTRIBUTING.md", "NEWS.md", "SECURITY.md")
FILES = ("Makefile", "LICENSE", *DOCUMENTS, "pyproject.toml")


def packages_of(field: str) -> tuple[str, ...]:
    """The names in a field of the package's control file, without versions and substitutions."""
    text = re.search(rf"(?m)^{field}:\n((?: .*\n)+)", CONTROL.read_text())
    assert text
    return tuple(re.findall(r"(?m)^ ([a-z0-9.+-]+)", text[1]))


def builder() -> Path:
    root = Root(SUITE, TOOLS, directories=("/lab",))
    return built("builder", asdict(root), lambda work: bootstrap(root, work / "root")) / "root"


def package(version: str) -> Path:
    """A folder with the .deb and its .changes. Two versions differ only in their number."""
    recipe = {"version": version, "sources": _sources(), "builder": builder().parent.name}
    return built(f"deb-{version}", recipe, lambda work: _build(version, work, Surroundings()))


def _sources() -> dict[str, str]:
    paths = [path for name in TREES for path in sorted((REPOSITORY / name).rglob("*")) if path.is_file()]
    paths = [path for path in paths if "__pycache__" not in path.parts]
    everything = [*paths, *(REPOSITORY / name for name in FILES)]
    return {str(path.relative_to(REPOSITORY)): hashlib.sha256(path.read_bytes()).hexdigest() for path in everything}


@frozen
class Surroundings:
    """What a build must not depend on."""

    folder: str = "source"
    umask: str = "022"
    modes: str = "u+rw"
    modified: str = "now"
    environment: tuple[str, ...] = ("LC_ALL=C.UTF-8",)


def copy_sources(tree: Path) -> None:
    tree.mkdir(parents=True)
    copy = ["tar", "--exclude=__pycache__", "--exclude=evidence", "-c", *TREES, *FILES, "tests"]
    archive = subprocess.run(copy, cwd=REPOSITORY, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=tree, check=True, input=archive)


def _make(command: str, version: str, work: Path, around: Surroundings) -> Path:
    """The tree in which a package was made."""
    tree = work / around.folder
    copy_sources(tree)
    for name in ("vfagent/__init__.py", "packaging/debian/changelog"):
        path = tree / name
        path.write_text(re.sub(r'(?m)(^__version__ = "|^vfagent \()[0-9.]+', rf"\g<1>{version}", path.read_text()))
    subprocess.run(["chmod", "-R", around.modes, str(tree)], check=True)
    subprocess.run(["find", str(tree), "-exec", "touch", "-d", around.modified, "{}", "+"], check=True)
    script = f"umask {around.umask}; cd /lab/{around.folder}; exec {command}"
    run_in(builder(), ["env", *around.environment, "sh", "-ec", script], {work: "/lab"})
    return tree


def _build(version: str, work: Path, around: Surroundings) -> None:
    tree = _make("make deb", version, work, around)
    for path in (tree / "build").glob(f"vfagent_{version}-1_*"):
        shutil.move(path, work / path.name)
    shutil.rmtree(tree)


def build_rpm(work: Path) -> Path:
    """In the folder, with what rpmlint has to know."""
    tree = _make("make rpm HOMEPAGE=https://git.example.com/vfagent", __version__, work, Surroundings())
    (work / "rpmlint.toml").write_bytes((tree / "packaging/rpm/rpmlint.toml").read_bytes())
    return Path(shutil.move(next((tree / "build").glob("*.rpm")), work))


def build(version: str, work: Path, surroundings: Surroundings) -> Path:
    """A .deb that is built anew in a folder."""
    work.mkdir()
    _build(version, work, surroundings)
    return deb(work)


# The first is for an upload to Debian's archive. The second asks for init scripts, and is gone in Debian 13's lintian.
NOT_FOR_US = {
    "trixie": "initial-upload-closes-no-bugs",
    "bookworm": "initial-upload-closes-no-bugs,package-supports-alternative-init-but-no-init.d-script",
}


def linter(suite: str) -> Path:
    """The builder has one; the other release's is in a root of its own."""
    if suite == SUITE:
        return builder()
    root = Root(suite, ("lintian",), directories=("/lab",))
    return built(f"lintian-{suite}", asdict(root), lambda work: bootstrap(root, work / "root")) / "root"


def lint(folder: Path, suite: str) -> str:
    """The output of a release's lintian, pedantic tags included."""
    changes = next(folder.glob("*.changes")).name
    command = [
        "lintian",
        "--allow-root",
        "--fail-on",
        "none",
        "--display-info",
        "--pedantic",
        "--show-overrides",
        f"--suppress-tags={NOT_FOR_US[suite]}",
        f"/lab/{changes}",
    ]
    return run_in(linter(suite), command, {folder: "/lab"})


def deb(folder: Path) -> Path:
    return next(folder.glob("*.deb"))
