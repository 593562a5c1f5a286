"""All that is proved of a bundle before a byte of it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.memory.fit import check_load
from bise_daemon.memory.reading import Reading
from bise_daemon.models.geometry import check_geometry
from bise_proto.bundle import check_files, manifest_bytes, parse_manifest
from bise_proto.v1 import bundle_pb2

if TYPE_CHECKING:
    from packaging.version import Version

    from bise_proto.trust.bundle import SignedBundle


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """A bundle that may be loaded.

    Attributes:
        folder: where it lies; where it is signed, links on the way are resolved.
        manifest: the bytes of bundle.json that were checked.
        bundle: what they say.
        version: to be accepted once the bundle is loaded; None where nothing vouches for it.
        context_tokens: entries that a slot is to hold.
        needed_tokens: entries without which nothing can be served.
        specialised: the graph to load instead of the bundle's, where a former start made one.
    """

    folder: Path
    manifest: bytes
    bundle: bundle_pb2.Bundle
    version: Version | None
    context_tokens: int
    needed_tokens: int
    specialised: Path | None


def check_bundle(
    config: DaemonConfig,
    memory: Reading,
    specialised: Callable[[bytes], Path | None] = lambda _: None,
    on_piece: Callable[[], object] = lambda: None,
) -> CheckedBundle:
    """Proves, in this order: signature, version, sizes, that there is memory for it, and every file's hash.

    Nothing that serves is touched, so that a running model goes on when another bundle is offered and refused.

    Args:
        config: names the bundle, and whom to trust.
        memory: that there is.
        specialised: finds, by the manifest's bytes, the graph with weights of its own for this device. Where there is
            one, the bundle's weights are not read, and not hashed.
        on_piece: called whenever another few bytes have been read.

    Raises:
        BundleError: the bundle is not to be loaded.
    """
    if (signed := _signed(config)) is not None:
        folder, manifest, bundle, version = signed.folder, signed.manifest, signed.bundle, signed.version
    else:
        folder, manifest, version = config.bundle, manifest_bytes(config.bundle), None
        bundle = parse_manifest(folder, manifest)
    check_geometry(folder, bundle)
    context_tokens = min(bundle.graph.context, config.context or bundle.graph.context)
    needed_tokens = min(context_tokens, config.prefill_chunk_tokens)
    check_load(bundle, memory, needed_tokens)
    found = specialised(manifest)
    for _ in check_files(folder, bundle, () if found is None else bundle.graph.weight_files, on_piece):
        pass
    return CheckedBundle(folder, manifest, bundle, version, context_tokens, needed_tokens, found)


def accept(config: DaemonConfig, checked: CheckedBundle) -> None:
    """Remembers the version of a bundle that was loaded, where a key vouches for it.

    Raises:
        BundleError: it can't be remembered.
    """
    if checked.version is not None:
        from bise_daemon.models import trust

        trust.accept(config, checked.bundle.name, checked.version)


def _signed(config: DaemonConfig) -> SignedBundle | None:
    if not config.trusted_keys:
        return None
    # Imported on first use: who trusts no keys need not wait 0.07 s for cryptography at each start.
    from bise_daemon.models.trust import read_trusted

    return read_trusted(config)
