# SPDX-License-Identifier: Apache-2.0
"""`vfagent rom build` and `vfagent rom list`."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from vfagent.cli.text import columns, printable
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.frozen import frozen
from vfagent.guests.dry_run import dry_runs
from vfagent.guests.ipxe_tree import devices_of, open_tree
from vfagent.guests.rom_build import known, provide
from vfagent.guests.rom_cache import RomStore
from vfagent.guests.spec.boot import boot_of
from vfagent.guests.spec.ipxe import DRIVERS, DRIVERS_SOURCE
from vfagent.guests.spec.placement import ManagedPf, expand
from vfagent.guests.spec.rom import RomFacts, RomWish
from vfagent.kernel.protocols import Host
from vfagent.model.codec import encode
from vfagent.model.inventory import Pf
from vfagent.policy.references import vf_reference
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import DEVICES
from vfagent.store.identity import open_host
from vfagent.store.policy_files import load

_TERMINAL_S, _PLAIN_S = 0.5, 10.0


@frozen(slots=True)
class WantedRom:
    """`wish` is None where no card tells what the VFs will be."""

    guest: str
    wish: RomWish | None


def rom(args: argparse.Namespace) -> int:
    return _build(args) if args.rom_verb == "build" else _list(args)


def wanted(policy: Policy, host: Host, pfs: Iterable[ManagedPf]) -> Iterator[WantedRom]:
    """The ROMs that guests of the policy need on the cards that are there, with VFs or before."""
    known_pfs = list(pfs)
    for rule in expand(policy.guest, known_pfs):
        if rule.ipxe is None or rule.ipxe.loader != "rom":
            continue
        label = vf_reference(rule.vfs[0]).label
        kinds = {_vf_hardware(one.pf, host) for one in known_pfs if one.desired.rule == label}
        for hardware in sorted(kinds) or [""]:
            yield WantedRom(rule.name, boot_of(rule, (hardware,)).rom if hardware else None)


def _vf_hardware(pf: Pf, host: Host) -> str:
    """All of a PF's VFs are of one kind, which its SR-IOV capability tells before there are any."""
    device = host.sysfs.read(f"{DEVICES}/{pf.address}/sriov_vf_device") or "0"
    return f"{pf.vendor.removeprefix('0x')}:{int(device, 16):04x}"


def _build(args: argparse.Namespace) -> int:
    policy, host = load(args.root), open_host(args.root)
    looks = dry_runs(policy, host, args.root)
    pfs = [ManagedPf(one.pf, one.desired, one.plan) for one in looks if one.pf and one.desired]
    _check_names(args.guests, [rule.name for rule in expand(policy.guest, pfs)])
    found = [one for one in wanted(policy, host, pfs) if not args.guests or one.guest in args.guests]
    if not found:
        whom = f"guest {', '.join(args.guests)}: boots by no ROM" if args.guests else "no guest boots by a ROM"
        raise VfagentError(whom, hint='a guest does with ipxe.loader = "rom"')
    failed = [one for one in found if not _provide(one, policy.agent.ipxe_source, args.root)]
    return Exit.ERROR if failed else Exit.OK


def _check_names(asked: list[str], known: list[str]) -> None:
    for name in asked:
        if name not in known:
            allowed = f"allowed are {', '.join(known)}" if known else "the policy has none on the PFs here"
            raise VfagentError(f"guest {name}: there is no such guest, {allowed}{suggestion(name, known)}")


def _provide(one: WantedRom, source: str | None, root: Path) -> bool:
    if one.wish is None:
        print(f"guest {one.guest}: no card here tells what its VF will be", file=sys.stderr)
        return False
    wish, before = one.wish, time.monotonic()
    with ThreadPoolExecutor(1) as aside:
        work = aside.submit(provide, "SYSTEM", wish, source, root)
        _show_progress(work, one.guest, wish, RomStore(root))
    if isinstance(error := work.exception(), VfagentError):
        hint = f"\n  ({error.hint})" if error.hint else ""
        print(f"guest {one.guest}: {error}{hint}", file=sys.stderr)
        return False
    print(printable(f"{work.result()}: for guest {one.guest}, {time.monotonic() - before:.0f} s"))
    return True


def _show_progress(work: "Future[Path]", guest: str, wish: RomWish, store: RomStore) -> None:
    terminal = sys.stderr.isatty()
    begun, logged = time.monotonic(), time.monotonic()
    while not work.done():
        time.sleep(0.1)
        if (now := time.monotonic()) - logged < (_TERMINAL_S if terminal else _PLAIN_S):
            continue
        logged = now
        text = f"guest {guest}: {wish.target}: {store.progress()} steps done, {now - begun:.0f} s"
        print(f"\r{text}\x1b[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and logged != begun:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _list(args: argparse.Namespace) -> int:
    policy, host, store = load(args.root), open_host(args.root), RomStore(args.root)
    looks = dry_runs(policy, host, args.root)
    pfs = [ManagedPf(one.pf, one.desired, one.plan) for one in looks if one.pf and one.desired]
    needs = [_need(one, policy, args.root) for one in wanted(policy, host, pfs)]
    drives = _drives({_vf_hardware(one.pf, host) for one in looks if one.pf}, policy.agent.ipxe_source, args.root)
    if args.json:
        print(json.dumps({"roms": encode(store.roms()), "guests": needs, "vfs": drives}, indent=2))
        return Exit.OK
    print("\n".join(_lines(store.roms(), needs, drives)))
    return Exit.OK


def _need(one: WantedRom, policy: Policy, root: Path) -> dict[str, str | None]:
    path = known(one.wish, policy.agent.ipxe_source, root) if one.wish and not one.wish.file else None
    file = one.wish.file if one.wish else None
    target = one.wish.target if one.wish else None
    return {"guest": one.guest, "target": target, "rom": file or (str(path) if path else None)}


def _drives(kinds: set[str], source: str | None, root: Path) -> list[dict[str, str | bool | None]]:
    """What iPXE can do for each kind of VF here, by vfagent's table and by the source tree."""
    try:
        listed = devices_of(open_tree(root / source.lstrip("/"))) if source else None
    except VfagentError as error:
        print(f"vfagent: {error}", file=sys.stderr)
        listed = None
    return [
        {"vf": kind, "driver": DRIVERS.get(kind), "in_tree": None if listed is None else kind in listed}
        for kind in sorted(kinds)
    ]


def _lines(
    roms: list[RomFacts], needs: list[dict[str, str | None]], drives: list[dict[str, str | bool | None]]
) -> Iterator[str]:
    yield "built:" if roms else "no ROM has been built"
    yield from columns(
        ((one.key, f"iPXE {one.version}", one.source, _when(one), f"{one.size} bytes") for one in roms), "  "
    )
    for need in needs:
        state = (
            f"boots by {need['rom']}" if need["rom"] else f"needs {need['target'] or 'a ROM'}, which is not built yet"
        )
        yield printable(f"guest {need['guest']}: {state}")
    for one in drives:
        driver = f"iPXE's {one['driver']} drives it" if one["driver"] else "iPXE has no driver for it"
        tree = {None: "", True: "; the source tree says so too", False: "; the source tree lists no driver for it"}
        differs = one["in_tree"] is True and not one["driver"]
        said = "; the source tree has one" if differs else tree[one["in_tree"]]  # type: ignore[index]
        yield printable(f"VF {one['vf']}: {driver} ({DRIVERS_SOURCE}){said}")


def _when(one: RomFacts) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(one.built_at))
