# SPDX-License-Identifier: Apache-2.0
"""A kernel module that only one test needs, so that it is in no image."""

import shutil
from dataclasses import asdict
from pathlib import Path

from tests.lab.cache import built, sources
from tests.lab.debian import run_in
from tests.lab.image import _build, _build_root, base, kernel_of

SOURCE = Path(__file__).parent / "counting"


def counting_module(suite: str) -> bytes:
    """For the kernel of this suite's host."""
    kernel = kernel_of(base(suite))
    recipe = {"build": asdict(_build(suite)), "kernel": kernel, "sources": sources(SOURCE)}
    folder = built(f"counting-{suite}", recipe, lambda work: _make(suite, kernel, work))
    return (folder / "counting.ko").read_bytes()


def _make(suite: str, kernel: str, work: Path) -> None:
    shutil.copytree(SOURCE, work, dirs_exist_ok=True)
    run_in(_build_root(suite), ["make", "-C", f"/lib/modules/{kernel}/build", "M=/lab", "modules"], {work: "/lab"})
