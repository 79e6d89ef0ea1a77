# SPDX-License-Identifier: Apache-2.0
"""`vfagent report`: one archive for a bug report. Its folder `tree` is what `--root` reads: it plans as this host."""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import vfagent
from vfagent.cli.anonymous import Anonymous
from vfagent.cli.new_file import new_file
from vfagent.cli.plan import inventory_lines
from vfagent.doctor.gather import cards_without_sriov
from vfagent.doctor.kernel_log import kernel_log
from vfagent.errors import PolicyError, VfagentError
from vfagent.exit_status import Exit
from vfagent.guests.dry_run import dry_runs, plan_guests
from vfagent.kernel.answers import ANSWERS_FILE, RecordingSysfs
from vfagent.policy.inline_texts import without_inline_texts
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import observe
from vfagent.service.bridges import plan_bridges
from vfagent.store.host_files import HostFiles
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import DROP_IN_FOLDERS, POLICY_FILE, load
from vfagent.store.recorded_host import recording

_MOST_OF_ONE = 8 << 20
_MOST_OF_ALL = 256 << 20
_COMMAND_S = 60.0
_KEPT = ("run/vfagent/driver-state", "run/vfagent/released", "run/vfagent/borrowed", "run/vfagent/guests",
         "run/vfagent/vf-users", "var/lib/vfagent/baseline", "var/lib/vfagent/moves")  # fmt: skip
_FILES = ("etc/machine-id", "etc/hostname", "etc/os-release", "proc/cmdline", "proc/version",
          "run/vfagent/status.json", "run/vfagent/kvm.json", POLICY_FILE)  # fmt: skip
_JOURNAL = [
    "journalctl",
    "--boot",
    "--unit",
    "vfagent.service",
    "--lines",
    "20000",
    "--no-pager",
    "--output",
    "short-iso",
]

Files = dict[str, str]
"""Texts by their paths in the archive; those of `tree/` may be links."""


def report(args: argparse.Namespace) -> int:
    root: Path = args.root
    host_name = read_identity(root).hostname or "host"
    name = "vfagent-report-" + time.strftime("%Y%m%d-%H%M%S")
    files, links, folders = _contents(root)
    if args.anonymise:
        names = {host_name: "host", host_name.partition(".")[0]: "host", _machine_id(root): "0" * 32}
        hidden = Anonymous(names, (*files.values(), *files, *links, *links.values(), *folders))
        files = {hidden.text(path): hidden.text(text) for path, text in files.items()}
        links = {hidden.text(path): hidden.text(target) for path, target in links.items()}
        folders = {hidden.text(folder) for folder in folders}
    _list(files, anonymous=args.anonymise)
    if not (args.yes or args.anonymise or _agreed()):
        print("no archive was written", file=sys.stderr)
        return Exit.ERROR
    path = args.output or Path(f"{name}.tar.gz")
    _write(path, name, files, links, folders)
    print(path)
    return Exit.OK


def _machine_id(root: Path) -> str:
    return read_identity(root).machine_id


def _list(files: Files, *, anonymous: bool) -> None:
    tree = [path for path in files if path.startswith("tree/")]
    for path in sorted(files.keys() - tree):
        print(f"{len(files[path]):>9}  {path}", file=sys.stderr)
    print(
        f"{sum(len(files[path]) for path in tree):>9}  tree: {len(tree)} files that vfagent --root reads",
        file=sys.stderr,
    )
    if not anonymous:
        print("it has this host's names, MACs and IP addresses; --anonymise replaces them", file=sys.stderr)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise VfagentError(
            "report: it would have names and addresses", hint="--yes writes it, --anonymise without them"
        )
    print("write it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _contents(root: Path) -> tuple[Files, dict[str, str], set[str]]:
    """Files, links and folders of the archive. What one source does not give is a text that says so."""
    sources: dict[str, Callable[[], str]] = {
        "versions.txt": lambda: _versions(root),
        "plan.txt": lambda: _command(_own("plan", root)),
        "status.txt": lambda: _command(_own("status", root)),
        "doctor.txt": lambda: _command(_own("doctor", root)),
        "journal.txt": lambda: _command(_JOURNAL),
        "tree/var/log/dmesg": lambda: "\n".join(kernel_log(root)) + "\n",
    }
    files, links, folders = _tree(root)
    for path, read in sources.items():
        try:
            files[path] = read()[-_MOST_OF_ONE:]
        except (OSError, subprocess.SubprocessError, VfagentError) as error:
            files[path] = f"not there: {error}\n"
    return files, links, folders


def _own(verb: str, root: Path) -> list[str]:
    return [sys.executable, "-m", "vfagent", verb, "--root", str(root)]


def _command(argv: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(vfagent.__file__).parents[1]), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", check=False, timeout=_COMMAND_S, env=environment
    )
    return done.stdout + done.stderr


def _versions(root: Path) -> str:
    release = HostFiles(root).read("etc/os-release") or ""
    systemd = _command(["systemctl", "--version"]).partition("\n")[0]
    lines = (f"vfagent {vfagent.__version__}", f"Python {platform.python_version()}", f"Linux {platform.release()}")
    return "\n".join((*lines, systemd, release))


def _tree(root: Path) -> tuple[Files, dict[str, str], set[str]]:
    """Exactly what `list` and `plan` read of this host, and the answers that they get."""
    host, sysfs, answers = recording(open_host(root), root)
    inventory = "\n".join(inventory_lines(observe(host))) + "\n"
    try:
        policy = load(root)
    except PolicyError:
        policy = Policy()
    runs = dry_runs(policy, host, root)
    plan_bridges(policy, host)
    list(plan_guests(policy, runs, host, root))
    cards_without_sriov(host, HostFiles(root))
    files = {f"tree/{path}": text for path, text in _files(root, sysfs).items()}
    files |= {"list.txt": inventory, f"tree/{ANSWERS_FILE}": json.dumps(answers, indent=1)}
    return files, {f"tree/{path}": target for path, target in sysfs.links.items()}, sysfs.folders


def _files(root: Path, sysfs: RecordingSysfs) -> Files:
    host_files, files = HostFiles(root), dict(sysfs.files)
    paths = [*_FILES, *(path for folder in DROP_IN_FOLDERS for path in host_files.matching(folder, "*.toml"))]
    paths += [path for folder in _KEPT for path in host_files.matching(folder, "*")]
    for path in paths:
        text = host_files.read(path)
        if text is not None:
            files[path] = (without_inline_texts(text) if path.endswith(".toml") else text)[:_MOST_OF_ONE]
    return files


def _write(path: Path, name: str, files: Files, links: dict[str, str], folders: set[str]) -> None:
    """For the user alone."""
    if sum(map(len, files.values())) > _MOST_OF_ALL:
        raise VfagentError("report: it would be larger than 256 MiB", hint="vfagent list --json and status --json")
    with (
        new_file(path, 0o600, hint="--output names another file") as raw,
        tarfile.open(fileobj=raw, mode="w:gz") as archive,
    ):
        for folder in sorted(folders):
            _add(archive, f"{name}/tree/{folder}", tarfile.DIRTYPE)
        for link, target in sorted(links.items()):
            _add(archive, f"{name}/{link}", tarfile.SYMTYPE, target=target)
        for file, text in sorted(files.items()):
            _add(archive, f"{name}/{file}", tarfile.REGTYPE, text)


def _add(archive: tarfile.TarFile, path: str, kind: bytes, text: str = "", *, target: str = "") -> None:
    data = text.encode("utf-8", "surrogateescape")
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname, entry.size, entry.mtime = kind, target, len(data), int(time.time())
    entry.mode = 0o700 if kind == tarfile.DIRTYPE else 0o600
    archive.addfile(entry, io.BytesIO(data))
