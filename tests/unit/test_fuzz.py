# SPDX-License-Identifier: Apache-2.0
"""Random bytes from outside are parsed, or refused with the documented error.

Half of the inputs are pieces of tests/corpus, changed and put together. By hand, each for an hour:
VFAGENT_FUZZ_S=3600 python3 -m pytest tests/unit/test_fuzz.py -k policy
"""

import logging
import os
import random
import re
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.netlink import VfInfo, link_message
from tests.unit.fuzz_sockets import control, qmp
from vfagent.errors import PolicyError
from vfagent.guests.spec.ipxe_image import image_of
from vfagent.guests.spec.rom import RomImage, rom_images
from vfagent.kernel.links import link_facts, link_in
from vfagent.kernel.vf_counters import VfCounters, counters_in
from vfagent.metrics.http import RefusedRequestError, Request, check_host, parse
from vfagent.metrics.page import Format, negotiated
from vfagent.model.pci import PciAddress
from vfagent.service.control_interface import INTERFACES
from vfagent.store.guest_records import GuestRecords
from vfagent.store.move_journal import MoveJournal
from vfagent.store.policy_files import load
from vfagent.store.state import State

HEADS = st.builds(
    lambda first, fields: "\r\n".join([first, *fields]).encode("latin-1"),
    st.text(st.characters(max_codepoint=255)) | st.sampled_from(("GET / HTTP/1.1", "GET /metrics HTTP/1.0")),
    st.lists(st.text(st.characters(max_codepoint=255)).map(lambda text: f"Accept-Encoding: {text}"))
    | st.lists(st.text("aptx/;,=.0129 -").map(lambda text: f"Accept: application/openmetrics-text;version={text}")),
)
ANSWER = link_message(2, "eth0", *(VfInfo(index, vlan=7).pack() for index in range(3)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The kernel's answer with some bytes changed, truncated anywhere."""
    data = bytearray(ANSWER)
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(st.binary(max_size=4096) | HEADS)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_request_is_parsed_or_refused(data: bytes) -> None:
    with suppress(RefusedRequestError):
        request = parse(data)
        assert isinstance(request, Request)
        assert negotiated(request.accept) in Format


@given(st.binary(max_size=512) | damaged())
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_answer_of_the_kernel_is_parsed_or_an_oserror(data: bytes) -> None:
    with suppress(OSError):
        link = link_in(data)
        assert all(isinstance(counters, VfCounters) for counters in counters_in(link).values())
        assert link_facts(link).ifindex == link.ifindex


def test_the_answer_is_valid_before_it_is_damaged() -> None:
    assert struct.unpack_from("=IH", ANSWER) == (len(ANSWER), 16)
    assert ANSWER[16] == socket.AF_UNSPEC


CORPUS = Path(__file__).parents[1] / "corpus"
SECONDS = float(os.environ.get("VFAGENT_FUZZ_S", "2"))
MOST = 300  # inputs, where VFAGENT_FUZZ_S does not say how long


def policy(data: bytes, folder: Path) -> None:
    path = folder / "etc/vfagent/policy.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with suppress(PolicyError):
        load(folder)


def state(data: bytes, folder: Path) -> None:
    address = PciAddress("0000:01:00.0")
    for name in ("run/vfagent/driver-state/0000:01:00.0.json", "var/lib/vfagent/baseline/0000:01:00.0.json"):
        _write(folder / name, data)
    for name in ("run/vfagent/guests/web.json", "run/vfagent/kvm.json", "var/lib/vfagent/moves/ens1.json"):
        _write(folder / name, data)
    stored, records = State(folder), GuestRecords(folder)
    assert stored.driver_state(address) is not None
    stored.baseline(address)
    records.all()
    records.kvm()
    MoveJournal(folder).pending()
    MoveJournal(folder).borrowed()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def http(data: bytes, _: Path) -> None:
    with suppress(RefusedRequestError):
        request = parse(data)
        assert negotiated(request.accept) in Format
        check_host(request)


def rom(data: bytes, _: Path) -> None:
    assert all(isinstance(image, RomImage) for image in rom_images(data))


def ipxe(data: bytes, _: Path) -> None:
    image = image_of(data)
    assert image is None or image.devices


def kernel(data: bytes, _: Path) -> None:
    with suppress(OSError):
        counters_in(link_in(data))


def _pieces(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def test_the_corpus_calls_each_method_of_the_control_socket() -> None:
    calls = b"".join(_pieces("control"))
    for interface, text in INTERFACES.items():
        for method in re.findall(r"^method (\w+)", text, re.MULTILINE):
            assert f'"{interface}.{method}"'.encode() in calls, method


def inputs(pieces: list[bytes]) -> Iterator[bytes]:
    """Each piece as it is, then changed ones."""
    yield from pieces
    chance = random.Random(os.environ.get("VFAGENT_FUZZ_SEED", "1"))
    while True:
        data = bytearray(chance.choice(pieces))
        for _ in range(chance.randint(1, 6)):
            at, size = chance.randint(0, len(data)), chance.choice((0, 1, 2, 8, 64))
            other = chance.choice(pieces)
            begin = chance.randint(0, len(other))
            data[at : at + size] = chance.choice((
                chance.randbytes(size), other[begin : begin + 4 * size], bytes([chance.randint(0, 255)]) * size,
                chance.choice((b"0", b"9" * 30, b"-1", b"[" * 99, b'"', b"\n", b"\0", b"{index}", b"\xff\xfe")),
            ))  # fmt: skip
        yield bytes(data)


@pytest.mark.parametrize("read", [policy, state, http, rom, ipxe, kernel, control, qmp])
def test_what_comes_of_a_changed_example_is_read_or_refused(
    read: Callable[[bytes, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    end, most = time.monotonic() + SECONDS, None if "VFAGENT_FUZZ_S" in os.environ else MOST
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for data in inputs(_pieces(read.__name__)):
            if time.monotonic() > end or tried == most:
                break
            tried += 1
            try:
                read(data, Path(folder))
            except BaseException as error:
                error.add_note(f"input {tried}: {data[:2000]!r}")
                raise
    print(f"{read.__name__}: {tried} inputs")
    assert tried > len(_pieces(read.__name__)) or SECONDS < 1
