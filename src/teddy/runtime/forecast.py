"""The plan of a run: what it finds in the store, what it will make, and about how long each takes on this machine.

The stages themselves make the plan, with a :class:`Forecast` in place of the store. It makes nothing: it finds what is there, and
for the rest it hands out stand-ins of the right names and sizes, so that fingerprints are those of the run. The time is measured:
the build of each kind of work is begun for real, on the stand-ins, and ends after its first units.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import Artifact, ArtifactStore, Outlook
from teddy.runtime.progress import Enough, Rehearsal, StageProgress, duration

Build = Callable[[Path], dict[str, Any]]
Timed = tuple[str, float, float]  # a progress, its units, and seconds per unit
PRIOR = 0.1
"""Share of a run whose measured time weighs as much as the plan's."""


@dataclass(frozen=True)
class Item:
    """An artifact of the run."""

    kind: str
    fingerprint: str
    found: bool
    what: str  # for people
    size: int = 0  # in bytes, of what is to be made
    parts: Mapping[str, tuple[float, float]] | None = None  # units and seconds per unit by progress; None: nobody knows

    @property
    def seconds(self) -> float | None:
        """Seconds that it will take; None if nobody knows."""
        if self.found or self.parts is None:
            return 0.0 if self.found else None
        return sum(units * each for units, each in self.parts.values())


class Forecast(ArtifactStore):
    """A store that makes nothing and notes what a run would find and make.

    Args:
        folder: for stand-ins; it is removed by whoever made it.
        timed: whether the time is measured. It cannot be by one process of several.
        known: times by kind of work from earlier plans; new ones are added.
    """

    def __init__(self, store: ArtifactStore, folder: Path, timed: bool, known: dict[str, Timed | None]) -> None:
        super().__init__(store.root)
        self.closed, self._folder, self._timed, self._known = store.closed, folder, timed, known
        self.items: list[Item] = []
        self.sample: tuple[Any, Build, int] | None = None  # trains the base model with so many images in a batch
        self._made: dict[str, Artifact] = {}

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Show nothing of the stages while they plan."""
        log = logging.getLogger("teddy")
        log.disabled, StageProgress.muted = True, True
        try:
            yield
        finally:
            log.disabled, StageProgress.muted = False, False
            gc.collect()  # what was begun and cut off, such as loader processes

    def produce(
        self,
        kind: str,
        content: Any,
        build: Build,
        collective: bool = False,
        outlook: Callable[[], Outlook] | None = None,
    ) -> Artifact:
        """Find an artifact, or hand out a stand-in for it; UserError if it may not be made in this run."""
        name = fingerprint(content)
        if name in self._made:
            return self._made[name]
        artifact = self.find(kind, content)
        if artifact is None and kind in self.closed:
            artifact = self._find_or_lock(kind, content, contextlib.ExitStack())
        folder = self._folder / kind / name
        if artifact is None:
            folder.mkdir(parents=True, exist_ok=True)
        if outlook is None:  # part of a build that is being timed
            return artifact or Artifact(folder, kind, name, build(folder), _files(folder))
        if artifact is not None:
            self.items.append(Item(kind, name, True, outlook().what))
        else:
            known = outlook()
            known.stand_in(folder)
            artifact = Artifact(folder, kind, name, dict(known.facts), _files(folder), planned=True)
            size = sum((folder / file).stat().st_size for file in artifact.files)
            self.items.append(Item(kind, name, False, known.what, size, self._parts(build, known)))
        self._made[name] = artifact
        return artifact

    def _parts(self, build: Build, outlook: Outlook) -> dict[str, tuple[float, float]] | None:
        """Units and seconds per unit of what takes time in a build."""
        parts, missing = {}, outlook.passes > 0
        if not self._timed:
            return None
        if outlook.timed:
            timed = self._rehearse((outlook.alike, outlook.label), build)
            if timed is None:
                return None
            label, units, each = timed
            missing = missing and label != outlook.label
            parts[label] = (units if missing or outlook.units is None else outlook.units, each)
        if missing:  # teachers tell the time of a pass
            sample = self.sample and self._rehearse(self.sample[0], self.sample[1])
            if self.sample is None or sample is None:
                return None
            units = outlook.units or outlook.passes
            parts[outlook.label] = (units, outlook.passes * sample[2] / self.sample[2] / units)
        return parts

    def _rehearse(self, alike: Any, build: Build) -> Timed | None:
        """Begin a build in a folder of its own and time its first units; None where that fails, as for want of memory."""
        key = repr(alike)
        if key in self._known:
            return self._known[key]
        folder, began = Path(tempfile.mkdtemp(dir=self._folder)), time.monotonic()
        StageProgress.rehearsal = rehearsal = Rehearsal()
        self._known[key] = None
        try:
            with contextlib.suppress(Enough):
                build(folder)
            each, whole = rehearsal.each, (rehearsal.label, 1, time.monotonic() - began)
            self._known[key] = whole if each is None else (rehearsal.label, rehearsal.total, each)
        except Exception:
            pass
        finally:
            StageProgress.rehearsal = None
            shutil.rmtree(folder, ignore_errors=True)
        return self._known[key]

    def lines(self, stages: Mapping[str, str], short: bool = False) -> list[str]:
        """A line for each stage, by kind of artifact, or for each kind of work in it, and one for the whole run."""
        groups: dict[tuple[str, str], list[Item]] = {}
        for item in self.items:
            groups.setdefault((stages[item.kind], "" if short else item.what), []).append(item)
        lines = []
        for (stage, what), items in sorted(groups.items(), key=lambda pair: list(stages.values()).index(pair[0][0])):
            found, new = [one for one in items if one.found], [one for one in items if not one.found]
            names = ", ".join(one.fingerprint[:8] for one in found[:3]) + (", …" if len(found) > 3 else "")
            words = [f"{len(found)} found ({names})"] if found else []
            words += [f"{len(new)} to make: {total(new)}"] if new else []
            lines.append(f"  {stage:<11}{what}{': ' if what else ''}{'; '.join(words)}")
        return [*lines, f"  {'run':<11}{total(self.items)}"]


class RunProgress:
    """Progress of the whole run: by the plan at first, and more and more by the time that was measured."""

    def __init__(self, store: ArtifactStore, items: list[Item]) -> None:
        self._store, self._began = store, time.monotonic()
        self._items = {item.fingerprint: item for item in items if not item.found}
        self._total = sum(item.seconds or 0.0 for item in items)
        self._current: tuple[str | None, float] = (None, 0.0)

    def advance(self, label: str, n: int) -> None:
        """Count ``n`` more units of a progress."""
        name = self._store.building
        done = self._current[1] if self._current[0] == name else 0.0
        parts = self._items[name].parts if name in self._items else None
        self._current = name, done + n * (parts or {}).get(label, (0.0, 0.0))[1]

    def status(self) -> str:
        """The share that is done and the time that is left, for a line of progress."""
        name, part = self._current
        made = {artifact.fingerprint for artifact in self._store.made}
        done = sum(item.seconds or 0.0 for key, item in self._items.items() if key in made)
        if name in self._items and name not in made:
            done += min(part, self._items[name].seconds or 0.0)
        if not self._total:
            return ""
        prior = PRIOR * self._total
        pace = (time.monotonic() - self._began + prior) / (done + prior)
        left = duration((self._total - done) * pace)
        unknown = any(item.seconds is None for item in self._items.values())
        return f" | run {100 * done / self._total:.0f} %, ETA {'at least ' if unknown else ''}{left}"


def total(items: Iterable[Item]) -> str:
    """The time and disk of what is to be made, in words; what several runs share counts once."""
    new = {item.fingerprint: item for item in items if not item.found}.values()
    known = [item.seconds for item in new if item.seconds is not None]
    size = sum(item.size for item in new)
    if not new:
        return "nothing to make"
    about = "about" if len(known) == len(new) else "at least"
    spent = f"{about} {duration(math.ceil(sum(known)))}" if known else "time unknown"
    return f"{spent}, {decimal(size)}" if size else spent


def _files(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir())
