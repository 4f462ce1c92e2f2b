"""Damage to files, and what may come of reading them: the thing read, or a `SdezooError`; in time, in memory, and leaving files alone."""

import faulthandler
import hashlib
import signal
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdezoo.errors import SdezooError

LIMIT = 10.0
"""Seconds that one input may take."""
TIMES = 4
"""Memory that an input may take, over its honest size: its length, or the float32 of the values that it really holds."""
SLACK = 32 * 2**20
"""Memory that any input may take: buffers of libraries, and a picture of four million pixels that was promised."""

LONGEST = 20_000
"""Characters of a message; most of them are what somebody else's library says."""

_STATUS = Path("/proc/self/status")
_EXTREMES = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)

Damage = tuple[str, int, int]


class Overtime(BaseException):
    """No `Exception`, so that nothing that hangs swallows it."""


damages = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "insert", "erase", "repeat", "<H", ">H", "<I", ">I", "<Q", ">Q", "digits"]),
        st.integers(0, 2**32 - 1),
        st.one_of(st.sampled_from(_EXTREMES), st.integers(0, 2**64 - 1)),
    ),
    max_size=4,
)


def damaged(content: bytes, damage: list[Damage]) -> bytes:
    """`content` after each of the damages in turn."""
    for kind, place, value in damage:
        content = _once(content, kind, place % (len(content) + 1), value)
    return content


def _once(content: bytes, kind: str, at: int, value: int) -> bytes:
    head, tail, some = content[:at], content[at:], 1 + value % 16
    if kind in _EDITS:
        return head + _EDITS[kind](tail, value, some)
    if kind == "digits":
        start = next((i for i, byte in enumerate(tail) if chr(byte).isdigit()), len(tail))
        return head + tail[:start] + str(value).encode() + tail[start + 1 :]
    size = struct.calcsize(kind)
    return head + struct.pack(kind, value % 256**size) + tail[size:]


_EDITS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "cut": lambda tail, value, some: b"",
    "flip": lambda tail, value, some: bytes([byte ^ (1 + value % 255) for byte in tail[:1]]) + tail[1:],
    "insert": lambda tail, value, some: value.to_bytes(8, "little")[:some] + tail,
    "erase": lambda tail, value, some: tail[some:],
    "repeat": lambda tail, value, some: tail[:some] * (1 + value % 100) + tail,
}


def hunt(
    contents: list[bytes],
    read: Callable[[Path], object],
    place: Path,
    examples: int,
    size: Callable[[object], int] = lambda found: 0,
    seal: Callable[[], object] = lambda: None,
) -> None:
    """Damage `contents` in `examples` ways, put each at `place`, and `read` it.

    The first of `contents` is whole: it is read before memory is counted, so that what is imported with it is there. `size` is the honest
    size of what was read; `seal` is called once the file lies there.
    """
    place.write_bytes(contents[0])
    sizes = {contents[0]: size(read(place))}  # a file whose damage shows at its end has taken what the whole file takes
    for content in contents[1:]:
        place.write_bytes(content)
        seal()
        try:
            sizes[content] = size(read(place))
        except SdezooError:
            sizes[content] = 0

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(contents), damages)
    def trial(content: bytes, damage: list[Damage]) -> None:
        place.write_bytes(damaged(content, damage))
        seal()
        honest = max(sizes[content], sum(file.stat().st_size for file in place.parent.iterdir()))
        attempt(lambda: read(place), place.parent, honest, size)

    trial()


def attempt(act: Callable[[], object], folder: Path, honest: int, size: Callable[[object], int] = lambda found: 0) -> None:
    """`act`, under all the bounds; `honest` is the length of what it reads, in `folder`."""
    before, found, refusal = contents_of(folder), None, None
    with _watched() as taken:
        try:
            found = act()
        except SdezooError as error:
            refusal = error
    if refusal:
        assert refusal.problem.endswith(".")
        assert refusal.remedy.endswith((".", "?"))
        assert len(str(refusal)) < LONGEST
    assert contents_of(folder) == before, "a file was changed"
    bound = TIMES * max(honest, size(found)) + SLACK
    assert max(taken) <= bound, f"{max(taken)} bytes were taken, where {bound} may be"


def contents_of(folder: Path) -> dict[str, str]:
    """Hashes of all files in a folder."""
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*")) if file.is_file()}


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Bytes taken in the block at most: as Python and NumPy counted them, and as the system saw them (torch, pyarrow, Pillow)."""
    taken: list[int] = []

    def out_of_time(*_: object) -> None:
        raise Overtime

    before = signal.signal(signal.SIGALRM, out_of_time)
    faulthandler.dump_traceback_later(3 * LIMIT, exit=True)  # for what hangs outside Python
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    tracemalloc.start()
    first = _resident("VmRSS") if _forget_peak() else 0
    try:
        yield taken
        taken.append(tracemalloc.get_traced_memory()[1])
        taken.append(_resident("VmHWM") - first if first else 0)
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _forget_peak() -> bool:
    """Whether the system counts the peak of resident memory from here on; Linux alone does."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
