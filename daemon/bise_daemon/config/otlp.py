"""The settings of OpenTelemetry export. What a validator here raises is what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

_ENDPOINT = "http://HOST:PORT or https://HOST:PORT of an OTLP/HTTP receiver"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OTLP/HTTP receiver; signals are below its path, at `v1/metrics` and `v1/traces`."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this machine on the way."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}{self.path}"


def _endpoint(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(_ENDPOINT) from error
    plain = value.isascii() and value.isprintable() and " " not in value
    if url.scheme not in ("http", "https") or not host or not plain:
        raise ValueError(_ENDPOINT)
    if url.query or url.fragment or url.username is not None or url.password is not None:
        raise ValueError(f"{_ENDPOINT} and a path at most (secrets belong into headers_file)")
    secure = url.scheme == "https"
    return Endpoint(secure, host, port or (443 if secure else 80), url.path.rstrip("/"))


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value and "\0" not in value else value


class OtlpConfig(BaseModel):
    """Where telemetry is sent, and what is kept while nobody takes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    endpoint: Annotated[Endpoint, BeforeValidator(_endpoint)] = Field(description=_ENDPOINT)
    headers_file: Annotated[Path | None, BeforeValidator(_path)] = Field(
        None, description="the path of a file of `name: value` lines that others can't read, or nothing"
    )
    interval_s: float = Field(
        60.0, ge=1, le=3600, allow_inf_nan=False, description="a number of seconds, from 1 to 3600"
    )
    # Metrics of one time are 3 kB (`bise.otlp.waiting` tells): at one a minute, this is four days of them.
    spool_bytes: int = Field(
        16 << 20, ge=64 << 10, le=1 << 32, description="a whole number of bytes, from 65536 to 4294967296"
    )

    @field_validator("headers_file")
    @classmethod
    def _kept_secret(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        # A missing endpoint had a problem of its own.
        endpoint = info.data.get("endpoint")
        if path is not None and endpoint is not None and not endpoint.secure and not endpoint.is_local:
            raise ValueError("nothing beside a plain http endpoint on another machine: headers would travel readable")
        return path
