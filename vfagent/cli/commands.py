# SPDX-License-Identifier: Apache-2.0
"""One function for each verb; each returns its exit status."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.exit_status import Exit

Verb = Callable[[argparse.Namespace], int]


def run(args: argparse.Namespace) -> int:
    from vfagent.service.main import serve

    only_here(args)
    return serve(debug=args.debug)


def only_here(args: argparse.Namespace) -> None:
    """For verbs that change what they find: another tree is somebody's evidence."""
    if args.root != Path("/"):
        hint = f"vfagent plan --root {args.root} shows what would be done"
        raise VfagentError(f"--root {args.root}: cannot {args.verb} there: another host's tree is only read", hint=hint)


def check(args: argparse.Namespace) -> int:
    from vfagent.store.policy_files import load, load_files

    policy = load_files(args.files) if args.files else load(args.root)
    files = ", ".join(policy.files) or "no policy file"
    counts = f"{len(policy.pf)} PF rules, {len(policy.guest)} guests, {len(policy.bridge)} bridges"
    print(f"{files}: valid: {counts}; digest {policy.digest}")
    return Exit.OK


def list_(args: argparse.Namespace) -> int:
    from vfagent.cli.text import inventory_lines
    from vfagent.model.codec import encode
    from vfagent.reconcile.observe import observe
    from vfagent.store.identity import open_host

    inventory = observe(open_host(args.root))
    _print(encode(inventory) if args.json else inventory_lines(inventory))
    return Exit.OK


def plan(args: argparse.Namespace) -> int:
    from vfagent.cli.text import bridge_lines, guest_plan_json, plan_json, plan_lines, printable, unmatched_rules_json
    from vfagent.guests.dry_run import dry_runs, plan_guests
    from vfagent.service.bridges import plan_bridges
    from vfagent.store.identity import open_host
    from vfagent.store.policy_files import load

    policy, host = load(args.root), open_host(args.root)
    looks = dry_runs(policy, host, args.root)
    guests = list(plan_guests(policy, looks, host, args.root))
    bridges = bridge_lines(plan_bridges(policy, host), looks)
    if args.json:
        beside = [guest_plan_json(guest) for guest in guests] + [{"bridge": line} for line in bridges]
        _print([*(plan_json(one) for one in looks), *unmatched_rules_json(looks, policy), *beside])
    else:
        _print(plan_lines(looks, policy) + bridges + [printable(guest.describe()) for guest in guests])
    settled = all(one.plan.settled for one in looks) and not (bridges or any(one.to_do for one in guests))
    return Exit.OK if settled else Exit.NOT_CONVERGED


def apply(args: argparse.Namespace) -> int:
    import asyncio

    from vfagent.cli.apply import apply_once

    only_here(args)
    if service_pid(args.root):
        raise VfagentError(
            "vfagent.service: is running, and applies the policy itself",
            hint="systemctl reload vfagent makes it look at everything now; vfagent status shows what it does",
        )
    return asyncio.run(apply_once(args.root, as_json=args.json))


def status(args: argparse.Namespace) -> int:
    from vfagent.cli.text import status_lines

    if args.watch and not args.json and sys.stdout.isatty():
        return _watch(args.root)
    while True:
        found = _read_status(args.root)
        if found is None:
            return _no_service()
        _print(found if args.json else status_lines(found, _not_active(args.root, found)))
        if not args.watch:
            return Exit.OK if _converged(found) else Exit.NOT_CONVERGED
        _wait_for_change(args.root)
        if not args.json:
            print()


def _not_active(root: Path, found: dict[str, object]) -> str | None:
    from vfagent.model.codec import decode
    from vfagent.model.status import Status
    from vfagent.store.policy_on_disk import not_active

    return not_active(root, decode(Status, found).policy)


def _watch(root: Path) -> int:
    from vfagent.cli.watch import Source, watch
    from vfagent.model.codec import decode
    from vfagent.model.status import Status
    from vfagent.store.policy_on_disk import not_active

    if _read_status(root) is None:
        return _no_service()

    def read() -> Status | None:
        return decode(Status, found) if (found := _read_status(root)) else None

    def alive() -> bool:
        return root != Path("/") or service_pid(root) is not None

    def remark(status: Status) -> str | None:
        return not_active(root, status.policy)

    watch(root / "run/vfagent/status.json", Source(read, alive, remark), sys.stdout)
    return Exit.OK


def _read_status(root: Path) -> dict[str, object] | None:
    from vfagent.model.codec import decode
    from vfagent.model.status import Status

    try:
        found = json.loads((root / "run/vfagent/status.json").read_bytes())
        decode(Status, found)  # a file of another version may lack what is shown
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise VfagentError(f"{error.filename}: cannot read it: {error.strerror}", hint="run it as root") from error
    except (OSError, ValueError, RecursionError) as error:
        raise VfagentError(f"status.json: cannot read it: {error}") from error
    running = root != Path("/") or service_pid(root) is not None
    return dict(found) if running else None


def _converged(found: dict[str, object]) -> bool:
    from vfagent.model.codec import decode
    from vfagent.model.status import Status

    return decode(Status, found).converged


def _wait_for_change(root: Path) -> None:
    """The file is replaced at each change; once a second is as often as anybody reads."""
    path = root / "run/vfagent/status.json"
    before = path.stat().st_ino if path.exists() else 0
    while path.exists() and path.stat().st_ino == before and service_pid(root):
        time.sleep(1.0)


def service_pid(root: Path) -> int | None:
    """The agent's process: it holds a lock for as long as it lives."""
    from vfagent.store.locks import is_locked

    return _pid_in_status(root) if is_locked(root / "run/vfagent") else None


def _pid_in_status(root: Path) -> int:
    try:
        return int(json.loads((root / "run/vfagent/status.json").read_bytes())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def doctor(args: argparse.Namespace) -> int:
    from vfagent.cli.doctor import doctor as examined

    return examined(args.root, as_json=args.json)


def guest(args: argparse.Namespace) -> int:
    if args.guest_verb == "list":
        return _list_guests(args)
    from vfagent.service.control_socket import ask

    try:
        blocker = ask(args.root, args.guest_verb, args.name)
    except FileNotFoundError:
        return _no_service()
    if blocker:
        cause = blocker.removeprefix(f"guest {args.name}: ")
        hint = "vfagent guest list shows them"
        raise VfagentError(f"guest {args.name}: cannot {args.guest_verb} it: {cause}", hint=hint)
    print(f"guest {args.name}: {'runs' if args.guest_verb == 'start' else 'stopped'}", file=sys.stderr)
    return Exit.OK


def _list_guests(args: argparse.Namespace) -> int:
    from vfagent.cli.text import guest_lines
    from vfagent.model.codec import decode, encode
    from vfagent.model.status import Status

    found = _read_status(args.root)
    if found is None:
        return _no_service()
    guests = decode(Status, found).guests
    _print(encode(guests) if args.json else guest_lines(guests) or ["no guests"])
    return Exit.OK


def _no_service() -> int:
    print("vfagent: the service is not running (systemctl start vfagent)", file=sys.stderr)
    return Exit.NO_SERVICE


def rom(args: argparse.Namespace) -> int:
    from vfagent.cli.rom import rom as rom_verb

    return rom_verb(args)


def release(args: argparse.Namespace) -> int:
    from vfagent.cli.apply import release_pf

    only_here(args)
    return release_pf(args.root, args.pf, force=args.force)


def schema(args: argparse.Namespace) -> int:
    from vfagent.policy.json_schema import schema as policy_schema

    print(json.dumps(policy_schema(), indent=2))
    return Exit.OK


def _print(data: object) -> None:
    if isinstance(data, list) and all(isinstance(line, str) for line in data):
        print("\n".join(data))
    else:
        print(json.dumps(data, indent=2))


VERBS: dict[str, Verb] = {
    "run": run,
    "check": check,
    "list": list_,
    "plan": plan,
    "apply": apply,
    "status": status,
    "doctor": doctor,
    "guest": guest,
    "rom": rom,
    "release": release,
    "schema": schema,
}
