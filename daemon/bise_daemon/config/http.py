"""The settings of the HTTP door. What a validator here raises is what was expected."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from bise_daemon.config.address import Address, parse_address


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return parse_address(value if "://" in value else f"tcp://{value}")


class HttpConfig(BaseModel):
    """Where OpenAI's clients find the daemon, and whether people do."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    listen: Annotated[Address, BeforeValidator(_address)] = Field(
        description="127.0.0.1:PORT or unix:///absolute/path.sock"
    )
    page: bool = Field(False, description="true or false")

    @field_validator("page")
    @classmethod
    def _on_this_machine(cls, page: bool, info: ValidationInfo) -> bool:
        # A missing address had a problem of its own.
        if page and (address := info.data.get("listen")) is not None and not address.is_local:
            raise ValueError("false beyond this machine: the page is for who stands before it")
        return page
