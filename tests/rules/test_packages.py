# SPDX-License-Identifier: Apache-2.0
"""The contents of the RPM, of the wheel and of `make install-host`. The lab builds and installs the Debian package."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.rules.commands import command_of
from tests.rules.project import PACKAGE, ROOT, none_of, passes
from tests.rules.test_links import broken
from vfagent import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONTROL = (ROOT / "packaging/debian/control").read_text()
SPEC = (ROOT / "packaging/rpm/vfagent.spec").read_text()
MODULES = {str(path.relative_to(ROOT)) for path in [*PACKAGE.rglob("*.py"), PACKAGE / "py.typed"]}


def make(target: str, *variables: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", target, *variables], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(root: Path) -> set[str]:
    return {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file() or path.is_symlink()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed as the spec does."""
    folder = tmp_path_factory.mktemp("installed")
    places = ("PYTHON_LIB=/usr/lib/python/site-packages", "ZSH=/usr/share/zsh/site-functions")
    make("install", f"DESTDIR={folder}", *places)
    make("install-man", f"DESTDIR={folder}", f"BUILD={folder.parent}/build")
    make("install-docs", f"DESTDIR={folder}")
    return folder


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("rpm")
    make("rpm", f"BUILD={build}")
    return build / f"vfagent-{__version__}-1.noarch.rpm"


def query(rpm: Path, *options: str) -> list[str]:
    done = subprocess.run(["rpm", "-qp", *options, str(rpm)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.wide
def test_the_rpm_has_the_installed_files_and_the_licence(rpm: Path, installed: Path) -> None:
    listed = query(rpm, "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\\n]")
    held = {line.split()[1].replace(_python(), "/usr/lib/python/") for line in listed if line[0] in "-l"}
    assert {re.sub(r"(/man/.*)\.gz$", r"\1", path) for path in held} == files(installed) | {
        f"/usr/share/licenses/vfagent-{__version__}/LICENSE"
    }


def _python() -> str:
    return f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/"


@pytest.mark.wide
def test_the_rpm_scripts_stop_no_unit(rpm: Path) -> None:
    scripts = "\n".join(query(rpm, "--scripts"))
    assert "udevadm trigger" in scripts
    assert not re.search(r"systemctl\s+(--\S+\s+)*(stop|kill|restart)", scripts)


@pytest.mark.parametrize("text", [CONTROL, SPEC], ids=["Debian", "RPM"])
def test_each_library_is_a_dependency_of_the_package(text: str) -> None:
    names = [re.match(r"[a-z0-9-]+", dependency) for dependency in PROJECT["dependencies"]]
    packages = {f"python3-{name[0]}".replace("systemd-python", "systemd") for name in names if name}
    dependencies = set(
        re.findall(r"python3-[a-z0-9_]+(?:-client)?", text.replace("prometheus_client", "prometheus-client"))
    )
    none_of([f"{name} is not a dependency" for name in packages - dependencies])


def test_all_packages_have_the_same_version() -> None:
    changelog = (ROOT / "packaging/debian/changelog").read_text()
    assert PROJECT["dynamic"] == ["version"]
    assert changelog.startswith(f"vfagent ({__version__}-1) ")
    assert "Version:        @VERSION@\n" in SPEC


@pytest.mark.wide
def test_the_wheel_has_the_modules_and_the_entry_point(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make(f"{source}/vfagent-{__version__}", f"BUILD={source}")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", str(tmp_path)]
    passes(sys.executable, "-m", "pip", "wheel", *options, source / f"vfagent-{__version__}")
    with zipfile.ZipFile(tmp_path / f"vfagent-{__version__}-py3-none-any.whl") as wheel:
        held = set(wheel.namelist())
        info = wheel.read(f"vfagent-{__version__}.dist-info/entry_points.txt").decode()
    assert {name for name in held if ".dist-info/" not in name} == MODULES
    assert "vfagent = vfagent.cli.main:main" in info


@pytest.mark.parametrize(
    "head",
    ["#!/opt/vfagent/bin/python3.11\n", "#!/bin/sh\n'''exec' \"/opt/vfagent/bin/python3.11\" \"$0\" \"$@\"\n' '''\n"],
    ids=["short path", "long path"],
)
def test_the_helpers_of_guests_run_by_the_python_that_pip_installed_into(tmp_path: Path, head: str) -> None:
    program = tmp_path / "vfagent"
    program.write_text(head)
    make("install-host", f"DESTDIR={tmp_path}", f"PROGRAM={program}")
    for helper in (tmp_path / "usr/libexec/vfagent" / name for name in ("stop-guest", "ask-guest")):
        assert helper.read_text().startswith("#!/opt/vfagent/bin/python3.11 -sP\n")
        assert helper.stat().st_mode & 0o777 == 0o755


def test_one_variable_says_where_the_runbook_is_read(tmp_path: Path) -> None:
    wiki = "https://wiki.example.com/vfagent?page=runbook"
    make("install-host", f"DESTDIR={tmp_path}", f"RUNBOOK={wiki}")
    folder = tmp_path / "usr/share/doc/vfagent/monitoring"
    assert f"runbook_url: {wiki}#vfagentdown\n" in (folder / "rules/vfagent.yml").read_text()
    assert f'"url": "{wiki}"' in (folder / "dashboard.json").read_text()
    linked = [path for path in sorted(folder.rglob("*")) if path.is_file() and "file:///" in path.read_text()]
    assert [path.name for path in linked] == ["README.md"]
    passes("promtool", "check", "rules", folder / "rules/vfagent.yml")


@pytest.mark.wide
def test_make_install_host_completes_a_wheel(tmp_path: Path) -> None:
    """By the page's command, with the program where pip puts it."""
    program, host = tmp_path / "bin/vfagent", tmp_path / "host"
    program.parent.mkdir()
    program.write_text("#!/usr/bin/python3\n")
    program.chmod(0o755)
    command = command_of("docs/install.md", "make install-host")
    path = f"{program.parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", command], cwd=ROOT, check=True, env=os.environ | {"PATH": path, "DESTDIR": str(host)})
    unit = (host / "usr/lib/systemd/system/vfagent.service").read_text()
    assert f"ExecStart={program} run\n" in unit
    assert not [path for path in files(host) if path.endswith(".py") or path == "/usr/bin/vfagent"]


def test_the_commands_of_the_uninstall_page_leave_no_installed_file(installed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    page = (ROOT / "docs/uninstall.md").read_text()
    commands = re.findall(r"(?m)^ {4}(rm -r?f .*)$", page) + re.findall(r"`(rm -rf [^`]*)`", page)
    assert len(commands) > 8
    elsewhere = {"/zsh/vendor-completions": "/zsh/site-functions", "/python3/dist-packages": "/python/site-packages"}
    for command in commands:
        for debian, here in elsewhere.items():
            command = command.replace(debian, here)
        argv = [f"{root}{word}" if word.startswith("/") else word for word in command.split()]
        assert all(word.startswith((str(root), "-", "rm")) for word in argv)
        subprocess.run(argv, check=True)
    assert files(root) == set()


def test_the_links_between_the_installed_documents_lead_somewhere(installed: Path) -> None:
    pages = [path for path in sorted((installed / "usr/share/doc/vfagent").rglob("*.md")) if path.is_file()]
    assert len(pages) > 30
    none_of([problem for page in pages for problem in broken(page)])


def git(root: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def problems_of_release(folder: Path) -> list[str]:
    command = [sys.executable, str(ROOT / "packaging/release.py"), "1.2.3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    problems = done.stderr.splitlines()
    assert done.returncode == (1 if problems else 0)
    return problems


def test_a_release_needs_a_date_an_entry_a_clean_tree_and_a_version_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "packaging/debian").mkdir(parents=True)
    news, changelog = tmp_path / "NEWS.md", tmp_path / "packaging/debian/changelog"
    news.write_text("# News\n\n## 1.2.3, not released yet\n")
    changelog.write_text("vfagent (1.2.2-1) unstable; urgency=medium\n")
    git(tmp_path, "init", "--quiet")
    assert len(problems_of_release(tmp_path)) == 3
    news.write_text("# News\n\n## 1.2.3, 2027-01-31\n")
    changelog.write_text("vfagent (1.2.3-1) unstable; urgency=medium\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    assert problems_of_release(tmp_path) == []
    git(tmp_path, "tag", "v1.2.3")
    assert len(problems_of_release(tmp_path)) == 1
