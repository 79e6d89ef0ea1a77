# SPDX-License-Identifier: Apache-2.0
"""A cache of build products, each in a folder that is named by the hash of its recipe."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """The folder of all build products."""
    default = Path.home() / ".cache" / "vfagent-lab"
    path = Path(os.environ.get("VFAGENT_LAB_CACHE") or default)
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def recipe_hash(recipe: Mapping[str, object]) -> str:
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sources(directory: Path, pattern: str = "**/*") -> dict[str, str]:
    """The files of a recipe, by name."""
    files = sorted(path for path in directory.glob(pattern) if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in files}


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (cache_dir() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built(name: str, recipe: Mapping[str, object], make: Callable[[Path], None]) -> Path:
    """The folder of this recipe's product, built at the first use."""
    product = cache_dir() / f"{name}-{recipe_hash(recipe)}"
    with _locked(name):
        if not product.exists():
            _make(name, product, make)
    return product


def _forget_old(name: str, product: Path) -> None:
    """Disk images are large: only the newest old one is kept."""
    others = [path for path in cache_dir().glob(f"{name}-*") if path.is_dir() and path != product]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-1]:
        shutil.rmtree(path, ignore_errors=True)


def _make(name: str, product: Path, make: Callable[[Path], None]) -> None:
    say(f"building {name}")
    begin = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir()))
    work.chmod(0o755)
    try:
        make(work)
        work.rename(product)
        _forget_old(name, product)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"built {product.name} in {time.monotonic() - begin:.0f} s")
