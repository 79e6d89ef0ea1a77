# SPDX-License-Identifier: Apache-2.0
"""The Debian package in a stock Debian without a kernel: lintian, dependencies, purge."""

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.lab.cache import built
from tests.lab.debian import StockRoot, bootstrap, run_in
from tests.lab.package import Surroundings, build, build_rpm, builder, copy_sources, deb, lint, package, packages_of
from tests.rules.commands import command_of
from vfagent import __version__

NEWER = "99.0.0"
FIND = "find / -xdev -name '*vfagent*' -not -path '/root/*' | sort"


@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_lintian_finds_nothing(suite: str) -> None:
    assert lint(package(__version__), suite) == ""


def test_rpmlint_finds_nothing_and_the_rpm_installs(tmp_path: Path) -> None:
    """Into a database of its own, without the packages that it requires: they are Fedora's."""
    rpm = build_rpm(tmp_path)
    report = run_in(builder(), ["rpmlint", "--config", "/lab/rpmlint.toml", f"/lab/{rpm.name}"], {tmp_path: "/lab"})
    assert "; 0 errors, 0 warnings, " in report, report
    install = f"rpm --root /lab/root --initdb && rpm --root /lab/root --install --nodeps --noscripts /lab/{rpm.name}"
    run_in(builder(), ["sh", "-ec", install], {tmp_path: "/lab"})
    assert (
        run_in(builder(), ["rpm", "--root", "/lab/root", "--verify", "--nodeps", "vfagent"], {tmp_path: "/lab"}) == ""
    )


ELSEWHERE = Surroundings(
    folder="a-longer-name/of-a-folder",
    umask="077",
    modes="u=rwX,go=",
    modified="2020-02-02",
    environment=("LC_ALL=C", "TZ=Pacific/Kiritimati", "HOME=/nonexistent", "USER=somebody"),
)


def test_a_package_that_is_built_again_elsewhere_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    """At another time, in another folder, by another umask, locale and zone, from files of other times and modes."""
    first = build(__version__, tmp_path / "first", Surroundings())
    again = build(__version__, tmp_path / "again", ELSEWHERE)
    assert first.read_bytes() == again.read_bytes()


@pytest.fixture(params=["trixie", "bookworm"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Debian without vfagent. apt has downloaded its dependencies, and has no network."""
    stock = StockRoot(request.param, ("systemd", "udev"), downloaded=packages_of("Depends"))
    made = built(f"stock-{request.param}", asdict(stock), lambda work: bootstrap(stock, work / "root"))
    subprocess.run(["cp", "-a", "--reflink=auto", str(made / "root"), str(tmp_path / "root")], check=True)
    for version in (__version__, NEWER):
        shutil.copy(deb(package(version)), tmp_path / "root/root")
    return tmp_path / "root"


def shell(root: Path, script: str) -> str:
    return run_in(root, ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "sh", "-ec", f"cd /root\n{script}"])


def install(root: Path, version: str) -> None:
    shell(root, f"apt-get install --yes --no-install-recommends --allow-downgrades ./vfagent_{version}-1_all.deb")


def test_the_package_brings_its_dependencies_and_purges_cleanly(root: Path) -> None:
    before = shell(root, FIND)
    install(root, __version__)
    assert shell(root, "vfagent --version; systemctl is-enabled vfagent") == f"vfagent {__version__}\nenabled\n"
    shell(root, "for file in /usr/share/doc/vfagent/examples/*.toml; do vfagent check $file; done; vfagent plan")
    assert shell(root, "vfagent schema | cmp - /usr/share/vfagent/policy.schema.json") == ""
    shell(root, "test -e /usr/lib/python3/dist-packages/vfagent/__pycache__; touch /etc/vfagent/policy.toml")
    for version in (NEWER, __version__):
        install(root, version)
        assert shell(root, "vfagent --version") == f"vfagent {version}\n"
    shell(root, "apt-get remove --yes vfagent; test -e /etc/vfagent/policy.toml; test ! -e /usr/bin/vfagent")
    shell(root, "apt-get purge --yes vfagent")
    assert shell(root, FIND) == before


# apt must not ask, and installs only what is needed.
APT = 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'


@pytest.mark.long
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_the_readme_commands_build_it_on_a_stock_debian(suite: str, tmp_path: Path) -> None:
    """From the list of build packages to the first command, on a Debian that had none of it."""
    install_tools = command_of("README.md", "apt install build-essential")
    install_package = command_of("README.md", "apt install ./build/")
    tools = (*install_tools.split()[2:], *packages_of("Depends"))
    stock = StockRoot(suite, ("systemd", "udev"), downloaded=tools)
    made = built(f"stock-build-{suite}", asdict(stock), lambda work: bootstrap(stock, work / "root"))
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(made / "root"), str(root)], check=True)
    (root / "etc/apt/apt.conf.d/90lab").write_text(APT)
    copy_sources(root / "root/clone")
    typed = "\n".join([install_tools, "make deb", install_package, "vfagent list", "vfagent --version"])
    output = shell(root, f"cd /root/clone\n{typed}")
    assert output.endswith(f"vfagent {__version__}\n")
