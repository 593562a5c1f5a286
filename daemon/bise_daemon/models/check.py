"""All that is proved of a bundle before a byte of it is loaded."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.memory.fit import check_load
from bise_daemon.memory.reading import Reading
from bise_daemon.models.geometry import check_geometry
from bise_daemon.models.ownership import check_contents, check_place
from bise_daemon.models.versions import Versions
from bise_proto.bundle import MANIFEST, BundleError, check_files, manifest_bytes, parse_manifest
from bise_proto.trust.bundle import SignedBundle, read_signed
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE
from bise_proto.v1 import bundle_pb2

logger = logging.getLogger(__name__)


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
    """

    folder: Path
    manifest: bytes
    bundle: bundle_pb2.Bundle
    version: Version | None
    context_tokens: int
    needed_tokens: int


def check_bundle(config: DaemonConfig, memory: Reading) -> CheckedBundle:
    """Proves, in this order: signature, version, sizes, that there is memory for it, and every file's hash.

    Nothing that serves is touched, so that a running model goes on when another bundle is offered and refused.

    Args:
        config: names the bundle, and whom to trust.
        memory: that there is.

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
    for _ in check_files(folder, bundle):
        pass
    return CheckedBundle(folder, manifest, bundle, version, context_tokens, needed_tokens)


def accept(config: DaemonConfig, checked: CheckedBundle) -> None:
    """Remembers the version of a bundle that was loaded: from here on, none before it is.

    Raises:
        BundleError: it can't be remembered.
    """
    if checked.version is not None:
        Versions(config.state_folder).accept(checked.bundle.name, checked.version)


def _signed(config: DaemonConfig) -> SignedBundle | None:
    """The manifest that a trusted key vouches for; None where the configuration asks for none and there is none."""
    if not config.trusted_keys:
        return None
    keys = [TrustedKey.read(file) for file in config.trusted_keys]
    if not config.require_signature and not os.path.lexists(config.bundle / SIGNATURE):
        logger.warning("%s: not signed, and loaded all the same: require_signature is off", config.bundle)
        return None
    signed = read_signed(config.bundle, keys)
    check_contents(signed.folder)
    if config.state_folder.exists():
        check_place(config.state_folder.resolve())
    _check_version(config, signed)
    logger.info("%s %s is signed by %s", signed.bundle.name, signed.version, signed.key)
    return signed


def _check_version(config: DaemonConfig, signed: SignedBundle) -> None:
    name, version = signed.bundle.name, signed.version
    accepted = Versions(config.state_folder).accepted(name)
    if accepted is None or version >= accepted:
        return
    if not config.allow_downgrade:
        raise BundleError(
            f"{signed.folder / MANIFEST}: expected {name} {accepted} or later, which this device had, got {version}. "
            "Install a later one, or set allow_downgrade: true for one start if the older is meant."
        )
    logger.warning("%s %s replaces the later %s: allow_downgrade is on", name, version, accepted)
