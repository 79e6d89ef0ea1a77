# SPDX-License-Identifier: Apache-2.0
"""The pyroute2 of Debian 12 and of Debian 13, and the newest that was tested."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.environment import PINNED

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("VFAGENT_CACHE") or Path.home() / ".cache/vfagent")
# A kill between two changes does not depend on the library.
TESTS = (("tests/host/test_rtnl.py",), ("tests/host/test_network.py", "-k", "not killed"))


VERSIONS = {
    "0.7.2": "87e5c6963af1224def6c35e7c08e616f6aa3751927f12a733ccc82bb72d11874",
    "0.7.7": "a7739de0305b27b2f1546e577631c68f19d601cf7a97f0bc168a5ce98d715111",
    "0.9.7": "01a2a3afe565a6acb0a0d5d8ac86c9682b6564407e3d9589070191ae94b737e8",
}


@pytest.fixture
def time_limit() -> None:
    """None here: each test of the other process has its own, and how long all of them take depends on the machine."""


@pytest.fixture(scope="session", params=VERSIONS)
def pyroute2(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A version, and a folder with it alone, which is installed at its first use."""
    version, folder = request.param, CACHE / f"pyroute2-{request.param}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=CACHE, prefix=".pyroute2-"))
        pins = fresh / "pins.txt"
        pins.write_text(f"pyroute2=={version} --hash=sha256:{VERSIONS[version]}\n")
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(fresh), *PINNED, str(pins)]
        try:
            subprocess.run(argv, check=True, capture_output=True, text=True)
            _put_in_place(fresh, folder)
        except subprocess.CalledProcessError as error:
            pytest.fail(f"cannot install pyroute2 {version}: {error.stderr}", pytrace=False)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return version, folder


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Two processes of pytest-xdist may install it at once: the first one counts."""
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.exists():
            raise


@pytest.mark.wide
@pytest.mark.parametrize("tests", TESTS, ids=lambda tests: tests[0])
def test_rtnetlink_works_the_same_with_this_pyroute2(pyroute2: tuple[str, Path], tests: tuple[str, ...]) -> None:
    version, folder = pyroute2
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    which = [sys.executable, "-c", "from importlib.metadata import version as v; print(v('pyroute2'))"]
    installed = subprocess.run(which, env=environment, capture_output=True, text=True, check=True, cwd="/")
    assert installed.stdout.strip() == version
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "--no-header", *tests]
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
