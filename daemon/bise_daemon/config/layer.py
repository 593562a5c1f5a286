"""Some of the daemon's settings: each held to what the daemon takes, none needed, none held against another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from bise_daemon.config.daemon import DaemonConfig


def _optional(field: FieldInfo) -> Any:
    default = field.default
    # Of the daemon's, for whoever reads the schema. A factory, since the schema would show a default of its own.
    has_default = not field.is_required() and default is not None and field.default_factory is None
    said = {"default": list(default) if isinstance(default, tuple) else default} if has_default else None
    optional = Field(default_factory=lambda: None, description=field.description, json_schema_extra=said)
    return Annotated[field.annotation, *field.metadata, optional]


if TYPE_CHECKING:
    ConfigLayer = BaseModel
else:
    ConfigLayer = create_model(
        "ConfigLayer",
        __config__=DaemonConfig.model_config,
        __doc__="Settings of the daemon, as in its own configuration file; each can be left out.",
        **{name: _optional(field) for name, field in DaemonConfig.model_fields.items()},
    )
