"""The settings of metrics. What a validator here raises is what was expected."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bise_daemon.config.address import TcpAddress, parse_address

_EXPECTED = "a loopback address and port like 127.0.0.1:9464"


def _loopback(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        address = parse_address(f"tcp://{value}")
    except ValueError as error:
        raise ValueError(_EXPECTED) from error
    if not isinstance(address, TcpAddress) or not address.is_local:
        raise ValueError(
            f"{_EXPECTED} (whoever scrapes from elsewhere needs something before it that knows its callers)"
        )
    return address


class MetricsConfig(BaseModel):
    """Where Prometheus scrapes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    listen: Annotated[TcpAddress, BeforeValidator(_loopback)] = Field(description=_EXPECTED)
