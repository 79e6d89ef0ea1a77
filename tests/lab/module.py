# SPDX-License-Identifier: Apache-2.0
"""Kernel modules that only one test needs, so that they are in no image."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.lab.cache import built, sources
from tests.lab.debian import run_in
from tests.lab.image import LINUX_SOURCE, _build, _build_root, base, kernel_of

HERE = Path(__file__).parent


def kernel_module(name: str, folder: str, suite: str) -> bytes:
    """NAME.ko, from a folder beside this file, for the kernel of this suite's host."""
    files = sources(HERE / folder)
    return _built(
        name, {"sources": files}, suite, lambda work: shutil.copytree(HERE / folder, work, dirs_exist_ok=True)
    )


def left_out_module(name: str, path: str, suite: str) -> bytes:
    """NAME.ko of this path in the kernel's source, where Debian's configuration leaves it out."""
    return _built(name, {"path": path}, suite, lambda work: _unpack(name, path, suite, work))


def _built(name: str, recipe: Mapping[str, object], suite: str, unpack: Callable[[Path], object]) -> bytes:
    kernel = kernel_of(base(suite))
    whole = {**recipe, "build": asdict(_build(suite)), "kernel": kernel}
    product = built(f"{name}-{suite}", whole, lambda work: _make(unpack, suite, kernel, work))
    return (product / f"{name}.ko").read_bytes()


def _unpack(name: str, path: str, suite: str, work: Path) -> None:
    package = LINUX_SOURCE[suite]
    strip = str(1 + len(Path(path).parts))
    archive = ["tar", "-xf", f"/usr/src/{package}.tar.xz", "-C", "/lab", f"--strip-components={strip}"]
    run_in(_build_root(suite), [*archive, f"{package}/{path}"], {work: "/lab"})
    (work / "Makefile").write_text(f"obj-m := {name}.o\n")


def _make(unpack: Callable[[Path], object], suite: str, kernel: str, work: Path) -> None:
    unpack(work)
    run_in(_build_root(suite), ["make", "-C", f"/lib/modules/{kernel}/build", "M=/lab", "modules"], {work: "/lab"})
