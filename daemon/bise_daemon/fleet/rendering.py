"""A device's configuration as the YAML that its daemon reads."""

from __future__ import annotations

from typing import Any

import yaml

from bise_daemon.fleet.fleet import Device, Fleet

# PyYAML writes them as they are, and reads them as ends of lines, which it makes spaces or others of.
_BREAKS = "\x85\u2028\u2029\ufeff"


def render(fleet: Fleet, device: Device, *, origin: bool = False) -> str:
    """The settings that layers set, in the order of the daemon's; what no layer sets is left to the daemon.

    Args:
        origin: whether comments say which layer set each value, and where it stands.
    """
    lines = [f"# The configuration of {device.name}."]
    for key, setting in device.settings.items():
        text = as_yaml({key: setting.value})
        said = f"# {fleet.origin(key, setting)}"
        match (origin, text.split("\n")):
            case (False, settings):
                lines += settings
            case (True, [one]):
                lines.append(f"{one}  {said}")
            case (True, settings):  # a comment within a text of several lines would be a part of it
                lines += [said, *settings]
    return "\n".join(lines) + "\n"


def as_yaml(value: Any, *, flow: bool | None = False) -> str:
    """A plain value in YAML without a line break at its end, and without one where a line is long."""
    text = _dumped(value, flow, is_ascii=False)
    if any(character in text for character in _BREAKS):
        text = _dumped(value, flow, is_ascii=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _dumped(value: Any, flow: bool | None, *, is_ascii: bool) -> str:
    return str(
        yaml.safe_dump(value, sort_keys=False, allow_unicode=not is_ascii, width=float("inf"), default_flow_style=flow)
    )
