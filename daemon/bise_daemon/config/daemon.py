"""The daemon's settings. A field's description is what its messages call "expected"."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator

from bise_daemon.config.address import Address, default_address, parse_address
from bise_daemon.config.http import HttpConfig
from bise_daemon.config.metrics import MetricsConfig
from bise_daemon.config.otlp import OtlpConfig
from bise_daemon.logs import LogFormat
from bise_daemon.prefixes.config import PrefixConfigs


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value and "\0" not in value else value


def _address(value: Any) -> Any:
    return parse_address(value) if isinstance(value, str) else value


TrustedKeys = Annotated[
    tuple[Annotated[Path, BeforeValidator(_path)], ...],
    Field(strict=False, max_length=16, description="up to 16 paths of public keys in PEM"),
]


class DaemonConfig(BaseModel):
    """All of `bise serve`'s settings; a configuration file has these keys and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=False)

    allow_remote: bool = Field(False, description="true or false")
    bundle: Annotated[Path, BeforeValidator(_path)] = Field(
        description="the path of a bundle's folder (a relative one starts at the configuration file)"
    )
    listen: Annotated[Address, BeforeValidator(_address), WithJsonSchema({"type": "string"})] = Field(
        default_factory=default_address, description="unix:///absolute/path.sock or tcp://127.0.0.1:PORT"
    )
    http: HttpConfig | None = Field(None, description="listen and page, or nothing for no HTTP")
    slots: int = Field(8, ge=1, le=64, description="a whole number of requests at once, from 1 to 64")
    context: int | None = Field(
        None, ge=16, le=1 << 24, description="a whole number of tokens from 16, or nothing for the bundle's own"
    )
    threads: int | None = Field(
        None, ge=1, le=256, description="a whole number of threads from 1 to 256, or nothing for one per core"
    )
    # SmolLM2's prefill is within 5 % of its fastest at 128, and a stream waits half as long for a step as at 256.
    prefill_chunk_tokens: int = Field(
        128, ge=1, le=1 << 16, description="a whole number of prompt tokens in one step, from 1 to 65536"
    )
    # A step is cut to this where a chunk would take longer: whoever comes meanwhile waits for one step.
    step_ms: float = Field(
        50.0, ge=1, le=60_000, allow_inf_nan=False, description="a number of milliseconds, from 1 to 60000"
    )
    ageing_ms: float = Field(
        5000.0, ge=1, le=3_600_000, allow_inf_nan=False, description="a number of milliseconds, from 1 to 3600000"
    )
    # Prompt lookup of more than 8 tokens costs a CPU more than it gains: see scheduler/drafts.py.
    draft_tokens: int = Field(8, ge=0, le=64, description="a whole number of tokens guessed ahead, from 0 to 64")
    prefix_slots: int = Field(
        8, ge=0, le=64, description="a whole number of ended requests to keep beside the slots, from 0 to 64"
    )
    prefix_tokens: int | None = Field(
        None,
        ge=0,
        le=1 << 30,
        description="a whole number of tokens to keep, or nothing for one context",
    )
    prefixes: PrefixConfigs = ()
    state_dir: Annotated[Path | None, BeforeValidator(_path)] = Field(
        None, description="the path of a folder for what is measured and computed here, or nothing for BUNDLE.state"
    )
    cache_dir: Annotated[Path | None, BeforeValidator(_path)] = Field(
        None, description="the path of a folder for what of it can be made again, or nothing for state_dir"
    )
    # Not on and off: YAML reads these as true and false.
    specialise: Literal["auto", "always", "never"] = Field("auto", description="auto, always or never")
    verify: Literal["quick", "full"] = Field("quick", description="quick or full")
    trusted_keys: TrustedKeys = ()
    # Behind what it needs, which its validator looks at.
    require_signature: bool = Field(False, description="true or false")
    allow_downgrade: bool = Field(False, description="true or false")
    max_queue: int = Field(64, ge=0, le=65536, description="a whole number of waiting requests, from 0 to 65536")
    max_message_bytes: int = Field(
        4 << 20, ge=1 << 10, le=64 << 20, description="a whole number of bytes, from 1024 to 67108864"
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, allow_inf_nan=False, description="a number of seconds, from 0 to 3600"
    )
    default_timeout_s: float = Field(
        120.0, gt=0, le=86400, allow_inf_nan=False, description="a number of seconds, more than 0 and up to 86400"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    metrics: MetricsConfig | None = Field(None, description="listen, or nothing for no metrics")
    log_format: LogFormat = Field("auto", description="auto, plain, journal or json")
    log_prompts: bool = Field(False, description="true or false")
    otlp: OtlpConfig | None = Field(None, description="endpoint at least, or nothing for no export")
    check_integrity: bool = Field(False, description="true or false")

    @field_validator("listen")
    @classmethod
    def _local_unless_allowed(cls, address: Address, info: ValidationInfo) -> Address:
        # A missing allow_remote is one with a problem of its own: one message is enough.
        if not address.is_local and not info.data.get("allow_remote", True):
            raise ValueError(
                "an address only this machine can reach, since the daemon does not know its callers there "
                "(put a proxy that does before it and set allow_remote: true, or use a unix socket)"
            )
        return address

    @field_validator("http")
    @classmethod
    def _http_local_unless_allowed(cls, http: HttpConfig | None, info: ValidationInfo) -> HttpConfig | None:
        if http is not None:
            cls._local_unless_allowed(http.listen, info)
        return http

    @field_validator("require_signature")
    @classmethod
    def _with_what_it_needs(cls, required: bool, info: ValidationInfo) -> bool:
        # What is missing here had a problem of its own.
        if required and not info.data.get("trusted_keys", True):
            raise ValueError("trusted_keys beside it, the public keys of who signs")
        if required and info.data.get("state_dir", True) is None:
            raise ValueError(
                "state_dir beside it, where accepted versions are kept (by default it would be another for each "
                "bundle's folder)"
            )
        return required

    @property
    def state_folder(self) -> Path:
        """`state_dir`, or what it is if left out."""
        return self.state_dir or self.bundle.parent / f"{self.bundle.name}.state"

    @property
    def cache_folder(self) -> Path:
        """`cache_dir`, or what it is if left out."""
        return self.cache_dir or self.state_folder
