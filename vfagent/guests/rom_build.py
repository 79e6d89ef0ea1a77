# SPDX-License-Identifier: Apache-2.0
"""A guest's ROM, from the cache or built. To build it takes a minute or two, so it runs in a worker."""

import os
import time
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.credentials import LONGEST_SCRIPT
from vfagent.guests.ipxe_tree import Tree, check_tools, devices_of, open_tree
from vfagent.guests.rom_cache import RomStore
from vfagent.guests.spec.rom import BUILD_S, RomFacts, RomWish, build_unit, digest, forget_unit
from vfagent.store.trusted_files import read_trusted
from vfagent.systemd.units import Systemd

_MARGIN_S = 30.0


def provide(bus: str, wish: RomWish, source: str | None, root: Path) -> Path:
    """The ROM's file. Raises VfagentError."""
    try:
        return _provide(bus, wish, source, root)
    except OSError as error:
        raise VfagentError(f"{error.filename}: cannot store the ROM {wish.target} there: {error.strerror}") from error


def _provide(bus: str, wish: RomWish, source: str | None, root: Path) -> Path:
    store = RomStore(root)
    if wish.file:
        return store.copy_of(wish.file, wish.hardware, wish.firmware)
    script = _script(wish, root)
    tree = _tree(wish, source, root) if source else None
    with store.locked():
        if path := store.find(wish.hardware, wish.firmware, digest(script), tree.digest if tree else None):
            return path
        if tree is None:
            hint = 'set one of them; ipxe.loader "image" needs neither'
            raise VfagentError("the guest needs a ROM: neither ipxe.rom nor agent.ipxe_source is set", hint=hint)
        return _build(bus, wish, script, tree, store)


def known(wish: RomWish, source: str | None, root: Path) -> Path | None:
    """The ROM's file if there is one already."""
    try:
        tree = open_tree(root / source.lstrip("/")).digest if source else None
        return RomStore(root).find(wish.hardware, wish.firmware, digest(_script(wish, root)), tree)
    except VfagentError:
        return None


def _script(wish: RomWish, root: Path) -> bytes:
    if wish.script_file is None:
        return (wish.script or "").encode()
    return read_trusted(root, wish.script_file, "the iPXE script", LONGEST_SCRIPT)


def _tree(wish: RomWish, source: str, root: Path) -> Tree | None:
    """None where the tree is gone, but a ROM that was built from it is still in the cache."""
    try:
        return open_tree(root / source.lstrip("/"))
    except VfagentError:
        if RomStore(root).find(wish.hardware, wish.firmware, digest(_script(wish, root)), None):
            return None
        raise


def _build(bus: str, wish: RomWish, script: bytes, tree: Tree, store: RomStore) -> Path:
    check_tools()
    if wish.hardware not in devices_of(tree):
        hint = "give its guests a guest.kernel"
        raise VfagentError(f"{tree.path}: cannot build {wish.target}: no driver there lists {wish.hardware}", hint=hint)
    for path in (store.made, store.log):
        path.unlink(missing_ok=True)
    jobs = len(os.sched_getaffinity(0))
    made, output = str(store.made), str(store.log)
    spec = build_unit(wish, store.store_script(script), str(tree.path), tree.digest, jobs, made, output)
    with Systemd(bus) as systemd:
        if not any(rom.tree == tree.digest for rom in store.roms()):
            systemd.start(forget_unit(tree.digest), BUILD_S)
        systemd.stop(spec.unit, _MARGIN_S)  # started by an earlier agent
        result = systemd.start(spec, BUILD_S + _MARGIN_S)
    if result != "done":
        hint = f"the whole output is in {store.log}; building needs gcc, make, perl and liblzma-dev"
        raise VfagentError(f"{tree.path}: cannot build {wish.target}: {store.failure()}", hint=hint)
    facts = RomFacts(
        hardware=wish.hardware,
        firmware=wish.firmware,
        script=digest(script),
        source=str(tree.path),
        version=tree.version,
        tree=tree.digest,
        built_at=time.time(),
        size=store.made.stat().st_size,
    )
    return store.keep(facts)
