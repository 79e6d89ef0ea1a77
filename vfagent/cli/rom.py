# SPDX-License-Identifier: Apache-2.0
"""`vfagent rom build` and `vfagent rom list`."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from vfagent.cli.outputs import RomDriver, RomNeed, Roms, print_json
from vfagent.cli.text import columns
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.frozen import frozen
from vfagent.guests.dry_run import dry_runs
from vfagent.guests.ipxe_images import read_image
from vfagent.guests.ipxe_tree import devices_of, open_tree
from vfagent.guests.rom_build import known, provide
from vfagent.guests.rom_cache import RomStore
from vfagent.guests.spec.boot import ASSUMED, IPXE_IMAGES, boot_of
from vfagent.guests.spec.ipxe import DRIVERS, DRIVERS_SOURCE
from vfagent.guests.spec.placement import ManagedPf, expand
from vfagent.guests.spec.rom import RomFacts, RomWish
from vfagent.kernel.protocols import Host
from vfagent.model.inventory import Pf
from vfagent.model.printable import printable
from vfagent.policy.references import vf_reference
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import DEVICES
from vfagent.reconcile.reports import Observed
from vfagent.store.identity import open_host
from vfagent.store.policy_files import load

_TERMINAL_S, _PLAIN_S = 0.5, 10.0


@frozen(slots=True)
class WantedRom:
    """`wish` is None where no PF is here whose VFs the guest gets."""

    guest: str
    wish: RomWish | None


def rom(args: argparse.Namespace) -> int:
    return _build(args) if args.rom_verb == "build" else _list(args)


def wanted(policy: Policy, host: Host, pfs: Iterable[ManagedPf]) -> Iterator[WantedRom]:
    """The ROMs that the policy's guests need on the PFs that are here, also before there are VFs."""
    known_pfs = list(pfs)
    for rule in expand(policy.guest, known_pfs):
        if rule.ipxe is None or rule.ipxe.loader != "rom":
            continue
        label = vf_reference(rule.vfs[0]).label
        kinds = {_vf_hardware(managed.pf, host) for managed in known_pfs if managed.desired.rule == label}
        for hardware in sorted(kinds) or [""]:
            yield WantedRom(rule.name, boot_of(rule, (hardware,), ASSUMED).rom if hardware else None)


def _vf_hardware(pf: Pf, host: Host) -> str:
    """All VFs of a PF have the device ID of its SR-IOV capability, which is known before there are VFs."""
    device = host.sysfs.read(f"{DEVICES}/{pf.address}/sriov_vf_device") or "0"
    return f"{pf.vendor.removeprefix('0x')}:{int(device, 16):04x}"


def _build(args: argparse.Namespace) -> int:
    policy, host = load(args.root), open_host(args.root)
    pfs = _managed_pfs(dry_runs(policy, host, args.root))
    _check_names(args.guests, [rule.name for rule in expand(policy.guest, pfs)])
    roms = [rom for rom in wanted(policy, host, pfs) if not args.guests or rom.guest in args.guests]
    if not roms:
        text = (
            f"guest {', '.join(args.guests)}: does not boot from a ROM" if args.guests else "no guest boots from a ROM"
        )
        raise VfagentError(text, hint='a guest does with ipxe.loader = "rom"')
    failed = [rom for rom in roms if not _provide(rom, policy.agent.ipxe_source, args.root)]
    return Exit.ERROR if failed else Exit.OK


def _managed_pfs(observations: Iterable[Observed]) -> list[ManagedPf]:
    return [
        ManagedPf(observed.pf, observed.desired, observed.plan)
        for observed in observations
        if observed.pf and observed.desired
    ]


def _check_names(asked: list[str], known: list[str]) -> None:
    for name in asked:
        if name not in known:
            allowed = f"allowed are {', '.join(known)}" if known else "the policy has none on the PFs here"
            raise VfagentError(f"guest {name}: there is no such guest, {allowed}{suggestion(name, known)}")


def _provide(rom: WantedRom, source: str | None, root: Path) -> bool:
    if rom.wish is None:
        print(f"guest {rom.guest}: no PF of its rule is here, so the device ID of its VF is unknown", file=sys.stderr)
        return False
    wish, before = rom.wish, time.monotonic()
    with ThreadPoolExecutor(1) as executor:
        work = executor.submit(provide, "SYSTEM", wish, source, root)
        _show_progress(work, rom.guest, wish, RomStore(root))
    if isinstance(error := work.exception(), VfagentError):
        hint = f"\n  ({error.hint})" if error.hint else ""
        print(f"guest {rom.guest}: {error}{hint}", file=sys.stderr)
        return False
    print(printable(f"{work.result()}: for guest {rom.guest}, {time.monotonic() - before:.0f} s"))
    return True


def _show_progress(work: "Future[Path]", guest: str, wish: RomWish, store: RomStore) -> None:
    terminal = sys.stderr.isatty()
    started = shown = time.monotonic()
    while not work.done():
        time.sleep(0.1)
        if (now := time.monotonic()) - shown < (_TERMINAL_S if terminal else _PLAIN_S):
            continue
        shown = now
        text = f"guest {guest}: {wish.target}: {store.progress()}, {now - started:.0f} s"
        print(f"\r{text}\x1b[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and shown != started:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _list(args: argparse.Namespace) -> int:
    policy, host, store = load(args.root), open_host(args.root), RomStore(args.root)
    observations = dry_runs(policy, host, args.root)
    needs = [_need(rom, policy, args.root) for rom in wanted(policy, host, _managed_pfs(observations))]
    ids = {_vf_hardware(observed.pf, host) for observed in observations if observed.pf}
    drivers = _drivers(ids, policy.agent.ipxe_source, args.root)
    if args.json:
        print_json(Roms(tuple(store.roms()), tuple(needs), tuple(drivers)))
        return Exit.OK
    print("\n".join(_lines(store.roms(), needs, drivers)))
    return Exit.OK


def _need(rom: WantedRom, policy: Policy, root: Path) -> RomNeed:
    if rom.wish is None:
        return RomNeed(rom.guest, None, None)
    path = rom.wish.file or known(rom.wish, policy.agent.ipxe_source, root)
    return RomNeed(rom.guest, rom.wish.target, str(path) if path else None)


def _drivers(ids: set[str], source: str | None, root: Path) -> list[RomDriver]:
    """iPXE's driver for each `vendor:device` of VFs here, and whether the images here and the source tree have one."""
    try:
        in_tree = devices_of(open_tree(root / source.lstrip("/"))) if source else None
    except VfagentError as error:
        print(f"vfagent: {error}", file=sys.stderr)
        in_tree = None
    images = {firmware: read_image(root, firmware) for firmware in IPXE_IMAGES} if ids else {}
    return [
        RomDriver(
            device,
            DRIVERS.get(device),
            {firmware: device in image.devices if image else None for firmware, image in images.items()},
            None if in_tree is None else device in in_tree,
        )
        for device in sorted(ids)
    ]


def _lines(roms: list[RomFacts], needs: list[RomNeed], drivers: list[RomDriver]) -> Iterator[str]:
    yield "built:" if roms else "no ROM has been built"
    yield from columns(
        ((rom.key, f"iPXE {rom.version}", rom.source, _built_at(rom), f"{rom.size} bytes") for rom in roms), "  "
    )
    for need in needs:
        state = f"boots from {need.rom}" if need.rom else f"needs {need.target or 'a ROM'}, which is not built yet"
        yield printable(f"guest {need.guest}: {state}")
    for vf in drivers:
        driver = f"iPXE's {vf.driver} drives it" if vf.driver else "iPXE has no driver for it"
        places = {f"the image for {firmware}": has for firmware, has in vf.in_images.items()}
        places["the source tree"] = vf.in_source
        here = [f"; {place} has {'a' if has else 'no'} driver" for place, has in places.items() if has is not None]
        yield printable(f"VF {vf.hardware}: {driver} ({DRIVERS_SOURCE}){''.join(here)}")


def _built_at(rom: RomFacts) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(rom.built_at))
