"""All that is wrong with a fleet's file, at once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.document import Document
from bise_daemon.config.problem import Location, Problem
from bise_daemon.config.validation import advice, shown, validated
from bise_daemon.fleet.layers import Conflict, Layer, Setting, settle
from bise_daemon.fleet.model import FleetFile
from bise_daemon.fleet.selection import Selection, selects, within

# Nobody reads more, and they would take more memory than the file.
_MAX_PROBLEMS = 100
# What is missing in something makes that wrong, and so what it stands in: there are not more levels than these.
_MAX_ROUNDS = 6


class Check:
    """Looks at a fleet's file.

    What is wrong in one place must not hide what is wrong in others, so these are looked at without it, as far as they
    make sense then.

    Attributes:
        file: the file without what is wrong in it; None if too little is left.
        settled: settings of each device, and what the daemon makes of them.
        members: how many devices each group takes.
        problems: all, in the file's order.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = document.values
        self._cut: set[Location] = set()
        self._found: dict[str, Problem] = {}
        self.settled: dict[str, tuple[dict[str, Setting], DaemonConfig | None]] = {}
        self.members: Counter[str] = Counter()
        self._tell(document.problems)
        self.file = self._read()
        if self.file is not None:
            self._tell(self._labels(self.file))
            self._tell(self._rings(self.file))
            self._tell(self._paths(self.file))
            self._tell(self._devices(self.file))
        self.problems = self._sorted()

    def _tell(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._found.setdefault(str(problem), problem)

    def _sorted(self) -> list[Problem]:
        problems = sorted(self._found.values(), key=lambda problem: problem.line or sys.maxsize)
        if (more := len(problems) - _MAX_PROBLEMS) > 0:
            return [*problems[:_MAX_PROBLEMS], Problem(str(self._document.path), f"and {more} more problems")]
        return problems

    def _read(self) -> FleetFile | None:
        document = self._document
        file, problems = validated(FleetFile, document.values, document.problem, document.unread)
        self._tell(problems)
        wrong = {*document.unread, *(problem.location for problem in problems)}
        for _ in range(_MAX_ROUNDS):
            if file is not None or () in self._cut:
                break
            self._cut |= {_part(self._values, location) for location in wrong}
            self._values = _without(document.values, self._cut)
            file, problems = validated(FleetFile, self._values, document.problem)
            wrong = {problem.location for problem in problems}
        return file

    def _labels(self, file: FleetFile) -> Iterator[Problem]:
        """Labels and values that are not declared, and devices without one that is."""
        if ("labels",) in self._cut:
            return
        for at, selection in self._selections(file):
            for label, values in selection.items():
                yield from self._label(file, (*at, label), values)
        for name, device in file.devices.items():
            at = ("devices", name, "labels")
            for label, value in device.labels.items():
                yield from self._label(file, (*at, label), (value,))
            if self._is_cut(at):
                continue
            for label in file.labels.keys() - device.labels.keys():
                known = ", ".join(file.labels[label])
                yield self._problem((*at, label), f"expected one of {known}, got nothing. Add the label.")

    def _label(self, file: FleetFile, at: Location, values: Sequence[str]) -> Iterator[Problem]:
        label = str(at[-1])
        if ("labels", label) in self._cut:
            return
        if label not in file.labels:
            known = advice(label, self._document.values.get("labels", {}))
            yield self._problem(at, f"expected a label that `labels` names, got another. {known}")
            return
        values_known = file.labels[label]
        for index, value in enumerate(values):
            if value not in values_known:
                message = f"expected a value that `labels` names, got {shown(value)}. {advice(value, values_known)}"
                yield self._problem((*at, index) if (*at, index) in self._document.lines else at, message)

    def _selections(self, file: FleetFile) -> Iterator[tuple[Location, Selection]]:
        yield from ((("groups", name, "match"), group.match) for name, group in file.groups.items())
        yield from ((("rollout", "rings", n, "match"), ring.match) for n, ring in enumerate(file.rollout.rings))

    def _rings(self, file: FleetFile) -> Iterator[Problem]:
        """Rings of one name, and those that can never have a device."""
        rings = file.rollout.rings
        for n, ring in enumerate(rings):
            for earlier in rings[:n]:
                if earlier.name == ring.name:
                    yield self._problem(("rollout", "rings", n, "name"), "expected each name once. Choose another.")
                if within(ring.match, earlier.match) and ring.percent <= earlier.percent:
                    message = (
                        f"expected a ring that some device can be in, got one whose devices are all in {earlier.name}. "
                        f"Give a percentage above {earlier.percent:g}, or leave the ring out."
                    )
                    yield self._problem(("rollout", "rings", n), message)
                    break

    def _paths(self, file: FleetFile) -> Iterator[Problem]:
        """Paths that start nowhere: a relative one would be another on each device."""
        for layer in self._layers(file):
            for key in layer.values:
                checked = getattr(layer.checked, key)
                paths = checked if isinstance(checked, tuple) else (checked,)
                if relative := [path for path in paths if isinstance(path, Path) and not path.is_absolute()]:
                    message = (
                        f"expected an absolute path, got {shown(str(relative[0]))}. Say where it is on the device."
                    )
                    yield self._problem((*layer.location, key), message)

    def _devices(self, file: FleetFile) -> Iterator[Problem]:
        """Settles each device; conflicts of its groups, and what the daemon does not take as a whole."""
        defaults, groups, own = self._defaults(file), self._groups(file), self._own(file)
        is_whole = not self._is_cut(("defaults",), ("groups",), ("labels",))
        conflicts: dict[tuple[str, str, str], list[str]] = {}
        wrong: dict[tuple[Location, str], list[str]] = {}
        for name, device in file.devices.items():
            mine = [group for group in groups if selects(group.selection, device.labels)]
            self.members.update(group.name for group in mine)
            settings, found = settle(defaults, mine, own[name])
            config = None
            for conflict in found:
                conflicts.setdefault(_ordered(conflict, self._document), []).append(name)
            if is_whole and not self._is_cut(("devices", name)):
                config, problems = self._config(settings)
                for problem in problems:
                    wrong.setdefault((problem.location, problem.message), []).append(name)
            self.settled[name] = settings, config
        layers = {layer.name: layer for layer in groups}
        # A group of which something is left out may only seem to conflict, or to be whom another is narrower than.
        if not any(cut[0] == "groups" and cut[2:3] != ("config",) for cut in self._cut):
            for (key, one, other), names in conflicts.items():
                yield self._conflict(key, layers[one], layers[other], names)
        for (location, message), names in wrong.items():
            yield self._problem(location, f"{message} {_for(names)}")

    def _config(self, settings: Mapping[str, Setting]) -> tuple[DaemonConfig | None, list[Problem]]:
        def problem(at: Location, message: str) -> Problem:
            setting = settings.get(str(at[0]))
            # What no layer sets is told where it would be set for all.
            return self._problem((*(setting.layer.location if setting else ("defaults",)), *at), message)

        return validated(DaemonConfig, {key: setting.value for key, setting in settings.items()}, problem)

    def _conflict(self, key: str, one: Layer, other: Layer, names: Sequence[str]) -> Problem:
        line = self._document.line((*one.location, key))
        both = ", ".join(f"{label}: {' or '.join(values)}" for label, values in _both(one, other).items())
        message = (
            f"expected one value, got {shown(other.values[key])} here and {shown(one.values[key])} in line {line}, and "
            f"neither group is within the other. Set it in a group that matches {both}, or on the device. {_for(names)}"
        )
        return self._problem((*other.location, key), message)

    def _layers(self, file: FleetFile) -> list[Layer]:
        return [self._defaults(file), *self._groups(file), *self._own(file).values()]

    def _defaults(self, file: FleetFile) -> Layer:
        return Layer("defaults", ("defaults",), self._at("defaults"), file.defaults)

    def _groups(self, file: FleetFile) -> list[Layer]:
        return [
            Layer(
                f"group {name}",
                ("groups", name, "config"),
                self._at("groups", name, "config"),
                group.config,
                group.match,
            )
            for name, group in file.groups.items()
        ]

    def _own(self, file: FleetFile) -> dict[str, Layer]:
        return {
            name: Layer(
                f"device {name}", ("devices", name, "config"), self._at("devices", name, "config"), device.config
            )
            for name, device in file.devices.items()
        }

    def _at(self, *location: str) -> dict[str, Any]:
        found: Any = self._values
        for key in location:
            found = found.get(key, {})
        return dict(found)

    def _problem(self, location: Location, message: str) -> Problem:
        return self._document.problem(location, message)

    def _is_cut(self, *within: Location) -> bool:
        """Whether something is left out in one of these places, or around it."""
        return any(cut[: len(place)] == place[: len(cut)] for cut in self._cut for place in within)


def _part(values: Mapping[str, Any], location: Location) -> Location:
    """What to leave out where something is wrong: what is there, down to the first list."""
    keys = tuple(key for key in location[: next((n for n, key in enumerate(location) if isinstance(key, int)), None)])
    found: Any = values
    for length, key in enumerate(keys):
        if not isinstance(found, dict) or key not in found:
            return keys[:length]
        found = found[key]
    return keys


def _without(values: Mapping[str, Any], cut: Collection[Location], at: Location = ()) -> dict[str, Any]:
    return {
        key: _without(value, cut, (*at, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if (*at, key) not in cut
    }


def _ordered(conflict: Conflict, document: Document) -> tuple[str, str, str]:
    """A conflict by names, the earlier in the file first, so that it is the same for each device."""
    one, other = sorted(
        (conflict.one, conflict.other), key=lambda layer: document.line((*layer.location, conflict.key))
    )
    return conflict.key, one.name, other.name


def _both(one: Layer, other: Layer) -> dict[str, list[str]]:
    """What a device matches that both groups take."""
    labels = dict.fromkeys([*one.selection, *other.selection])
    return {
        label: [
            value
            for value in one.selection.get(label, other.selection.get(label, ()))
            if value in other.selection.get(label, (value,))
        ]
        for label in labels
    }


def _for(names: Sequence[str]) -> str:
    more = len(names) - 1
    return f"For {names[0]}." if not more else f"For {names[0]} and {more} more device{'s' if more > 1 else ''}."
