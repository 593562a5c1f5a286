"""`bise serve`."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundle: Annotated[Path | None, typer.Option(help="The bundle to serve.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings; flags go before it.")] = None,
    listen: Annotated[str | None, typer.Option(help="unix:///path.sock or tcp://127.0.0.1:PORT.")] = None,
    http: Annotated[str | None, typer.Option(help="OpenAI's API too: 127.0.0.1:PORT or unix:///path.sock.")] = None,
    page: Annotated[bool, typer.Option("--page", help="And a page for people, at the address of --http.")] = False,
    slots: Annotated[int | None, typer.Option(help="Requests served at once.")] = None,
    context: Annotated[int | None, typer.Option(help="Most tokens a request may hold.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of a step; one per core if not given.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics for Prometheus too: 127.0.0.1:9464.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Serve a bundle over gRPC until SIGTERM."""
    # Imported here, so that `bise --help` is quick.
    from bise_daemon.activation import ActivationError
    from bise_daemon.canary import CanaryError
    from bise_daemon.config.daemon import DaemonConfig
    from bise_daemon.config.load import config_from_flags, load_config
    from bise_daemon.config.problem import ConfigError
    from bise_daemon.engine.session import SessionError
    from bise_daemon.loading import LoadingStalledError
    from bise_daemon.server import serve as run
    from bise_daemon.socket_lock import AddressInUseError
    from bise_daemon.systemd import ManagerError
    from bise_proto.bundle import BundleError

    # Who ends a daemon that is stuck (systemd's watchdog, with SIGABRT) leaves in the log where each thread was.
    faulthandler.enable()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    flags = {
        "bundle": None if bundle is None else str(bundle),
        "listen": listen,
        "http": {"listen": http, "page": page or None},
        "slots": slots,
        "context": context,
        "threads": threads,
        "log_level": "debug" if verbose else None,
        "metrics": {"listen": metrics},
    }

    def read() -> DaemonConfig:
        return config_from_flags(flags) if config is None else load_config(config, flags)

    try:
        asyncio.run(run(read(), read))
    except (
        ConfigError,
        BundleError,
        SessionError,
        LoadingStalledError,
        ActivationError,
        ManagerError,
        CanaryError,
        AddressInUseError,
        OSError,
    ) as error:
        for line in str(error).splitlines():
            typer.echo(f"bise serve: {line}", err=True)
        raise typer.Exit(1) from None
