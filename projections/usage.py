"""Usage: the second fold. What was used, of whom, from when to when, and which records say so.

Beside the state, and as pure: the same records give the same intervals. An interval that has
ended is only in the rows; those that are open are here too. `usage_folds` has the rules.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from events.billing import Meter

Kept = Literal["", "paused", "waiting"]
"""Why a GPU is kept whose container does not run: its caller paused it, or it ended by itself and
is to be started again, as its caller wished."""

Note = Literal["no_limit", "no_size", "record_time", "clock"]
"""What is to be known of an interval: nothing is metered, as there is no limit; the disk's size
was not counted; Docker had no time for its begin or end, so that of the record was taken; a time
was before what came before it, or after the record that tells of it, and was moved there."""

Subject = tuple[Literal["replica_set", "volume"], str]

Slot = tuple[Meter, int, str]
"""Meter, revision or version, and UUID where it is a GPU: one interval at a time is open there."""


class Interval(Struct, frozen=True, gc=False, omit_defaults=True):
    """So much of something, of one owner, from one instant to another (microseconds, UTC)."""

    opened_seq: int
    """The record that opened it."""
    place: int
    """Which of those that this record opened."""
    meter: Meter
    name: str
    """The replica set; of a volume, the volume."""
    number: int
    amount: int
    """1 GPU, billionths of a core, or bytes; 0 where there is nothing to meter by."""
    begun_us: int
    ended_us: int | None = None
    closed_seq: int | None = None
    """The record that closed it; None while it is open."""
    tenant: str = ""
    labels: dict[str, str] = {}
    """Those of the spec while it lasted."""
    gpu: str = ""
    model: str = ""
    kept: Kept = ""
    notes: tuple[Note, ...] = ()

    @property
    def subject(self) -> Subject:
        """Whose it is."""
        return "volume" if self.meter == "volume" else "replica_set", self.name

    @property
    def slot(self) -> Slot:
        """Where it is open."""
        return self.meter, self.number, self.gpu


class Opened(Struct, frozen=True, gc=False):
    """The intervals that one record opened. Most of them end together: they share a row."""

    seq: int
    intervals: tuple[Interval, ...]

    @property
    def begun_us(self) -> int:
        """The first begin."""
        return min(interval.begun_us for interval in self.intervals)

    @property
    def ended_us(self) -> int | None:
        """The last end; None while one is open."""
        ends = [one.ended_us for one in self.intervals if one.ended_us is not None]
        return max(ends) if len(ends) == len(self.intervals) else None

    @property
    def closed_seq(self) -> int | None:
        """The record that closed the last one; None while one is open."""
        seqs = [one.closed_seq for one in self.intervals if one.closed_seq is not None]
        return max(seqs) if len(seqs) == len(self.intervals) else None


class GpuUntil(Struct, frozen=True, gc=False):
    """A GPU, and the end of the last interval of it: none that begins later begins before."""

    uuid: str
    until_us: int


class Usage:
    """The intervals that are open, and those that changed since rows were last taken.

    `seq` is the last record that had a say in any.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.open: dict[Subject, dict[Slot, Interval]] = {}
        """A subject of which nothing is open has no entry."""
        self.lent: dict[str, Interval] = {}
        """By UUID: what is open of a GPU."""
        self.until: dict[str, GpuUntil] = {}
        self._opened: dict[int, dict[int, Interval]] = {}
        """By record: all that it opened, as long as any of it is open."""
        self._touched: dict[int, dict[int, Interval]] = {}
        self._touched_gpus: set[str] = set()
        self._place = 0

    def at(self, seq: int) -> None:
        """A record begins."""
        self.seq = seq
        self._place = 0

    def next_place(self) -> int:
        """The place of one more interval that this record opens."""
        self._place += 1
        return self._place - 1

    def begin(self, interval: Interval) -> None:
        """Open an interval. What was open there ends, and a GPU is used once at a time."""
        subject, slot = interval.subject, interval.slot
        slots = self.open.get(subject)
        if slots is not None and (before := slots.get(slot)) is not None:
            self.end(before, interval.begun_us)
        uuid = interval.gpu
        if uuid:
            if (lent := self.lent.get(uuid)) is not None:
                self.end(lent, interval.begun_us)
            until = self.until.get(uuid)
            if until is not None and until.until_us > interval.begun_us:
                moved: tuple[Note, ...] = (*interval.notes, "clock")
                interval = replace(interval, begun_us=until.until_us, notes=moved)
        self._touched[interval.opened_seq] = self._note_open(interval, subject, slot)

    def end(self, interval: Interval, at_us: int, *notes: Note) -> None:
        """Close an open interval, at this record; never before its begin."""
        if at_us < interval.begun_us:
            at_us, notes = interval.begun_us, (*notes, "clock")
        known = interval.notes
        if notes:
            known = (*known, *(note for note in notes if note not in known))
        ended = replace(interval, ended_us=at_us, closed_seq=self.seq, notes=known)
        seq, subject, uuid = ended.opened_seq, ended.subject, ended.gpu
        together = self._touched[seq] = self._opened[seq]
        together[ended.place] = ended
        slots = self.open[subject]
        del slots[ended.slot]
        if not slots:
            del self.open[subject]
        if uuid:
            del self.lent[uuid]
            self.until[uuid] = GpuUntil(uuid, at_us)
            self._touched_gpus.add(uuid)
        for other in together.values():
            if other.ended_us is None:
                return
        del self._opened[seq]

    def of(self, subject: Subject) -> tuple[Interval, ...]:
        """What is open of a subject, oldest first."""
        return tuple(self.open.get(subject, {}).values())

    def take(self) -> tuple[list[Opened], list[GpuUntil]]:
        """What changed since the last call, as it is now."""
        rows = [Opened(seq, tuple(some.values())) for seq, some in self._touched.items()]
        gpus = [self.until[uuid] for uuid in self._touched_gpus]
        self._touched.clear()
        self._touched_gpus.clear()
        return rows, gpus

    def load(self, seq: int, rows: Iterable[Opened], gpus: Iterable[GpuUntil]) -> None:
        """Take up the rows of which something is open, oldest first, and the GPUs' ends."""
        self.seq = seq
        for row in rows:
            for interval in row.intervals:
                if interval.ended_us is None:
                    self._note_open(interval, interval.subject, interval.slot)
                else:
                    self._opened.setdefault(row.seq, {})[interval.place] = interval
        self.until = {gpu.uuid: gpu for gpu in gpus}

    def _note_open(
        self, opened: Interval, subject: Subject, slot: Slot
    ) -> dict[int, Interval]:
        """Keep it with those that its record opened; these."""
        slots = self.open.get(subject)
        if slots is None:
            slots = self.open[subject] = {}
        slots[slot] = opened
        if opened.gpu:
            self.lent[opened.gpu] = opened
        together = self._opened.get(opened.opened_seq)
        if together is None:
            together = self._opened[opened.opened_seq] = {}
        together[opened.place] = opened
        return together
