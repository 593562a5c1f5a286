"""What a fleet's file may say. A field's description is what its messages call "expected"."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from bise_daemon.config.layer import ConfigLayer

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

Name = Annotated[
    str,
    Field(
        pattern=_NAME,
        description="a name of 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first "
        "(in quotes where YAML would take it for a number, true or false)",
    ),
]
_NAME_SCHEMA = {"type": "string", "pattern": _NAME}


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Values = Annotated[
    tuple[Name, ...],
    Field(strict=False, min_length=1, max_length=1024, description="a value, or a list of values"),
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [_NAME_SCHEMA, {"type": "array", "items": _NAME_SCHEMA, "minItems": 1}]}),
]
Match = Annotated[
    dict[Name, Values], Field(description="labels, each with the value, or the list of values, that devices have")
]


class Group(BaseModel):
    """Settings of all devices whose labels match."""

    model_config = _STRICT

    match: Match = Field(
        min_length=1, description="labels, each with the value, or the list of values, that devices of the group have"
    )
    config: ConfigLayer = Field(description="settings for its devices, by key")


class Device(BaseModel):
    """One device, and what is set for it alone."""

    model_config = _STRICT

    labels: dict[Name, Name] = Field(default={}, description="the device's value of each label")
    config: ConfigLayer = Field(default_factory=ConfigLayer, description="settings for this device alone, by key")


class Gate(BaseModel):
    """What has to be so before the next ring's turn."""

    model_config = _STRICT

    window_s: int = Field(
        default=120,
        ge=1,
        le=86_400,
        description="a whole number of seconds in which a device has to serve, from 1 to 86400",
    )
    wait_s: int = Field(
        default=300, ge=0, le=604_800, description="a whole number of seconds to watch a ring, from 0 to 604800"
    )
    max_unserved: int = Field(
        default=0, ge=0, le=65_536, description="a whole number of devices that may fail, from 0 to 65536"
    )


class Ring(BaseModel):
    """Devices that get a change at the same time: those no earlier ring took, that match, up to a percentage."""

    model_config = _STRICT

    name: Name
    match: Match = Field(
        default={}, description="labels, each with the value, or the list of values, that its devices have"
    )
    percent: float = Field(
        default=100.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="the percentage of the fleet that has its turn by this ring, from 0 to 100",
    )
    pause: bool = Field(default=False, description="true or false: whether a rollout stops before this ring")
    at_once: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="a whole number of devices at a time, from 1, or nothing for the whole ring",
    )
    gate: Gate = Field(default_factory=Gate, description="window_s, wait_s and max_unserved")


class Rollout(BaseModel):
    """In which order devices get a change."""

    model_config = _STRICT

    rings: tuple[Ring, ...] = Field(
        default_factory=lambda: (Ring(name="all"),),
        strict=False,
        min_length=1,
        max_length=32,
        description="1 to 32 rings, each with a name, in their order",
    )


class FleetFile(BaseModel):
    """A fleet: what labels there are, settings in layers, devices, and how a change reaches them."""

    model_config = _STRICT

    labels: dict[Name, Values] = Field(default={}, description="labels, each with the list of values it may have")
    defaults: ConfigLayer = Field(default_factory=ConfigLayer, description="settings for all devices, by key")
    groups: dict[Name, Group] = Field(default={}, description="groups by name, each with match and config")
    devices: dict[Name, Device] = Field(
        min_length=1, max_length=10_000, description="1 to 10000 devices by name, each with labels and config"
    )
    rollout: Rollout = Field(default_factory=Rollout, description="rings: a list of rings in their order")
