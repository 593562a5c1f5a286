"""Bundles of whom the configuration trusts, and no way back to earlier versions of them."""

from __future__ import annotations

import logging
import os

from packaging.version import Version

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.models.ownership import check_contents, check_place
from bise_daemon.models.versions import Versions
from bise_proto.bundle import MANIFEST, BundleError
from bise_proto.trust.bundle import SignedBundle, read_signed
from bise_proto.trust.key import TrustedKey
from bise_proto.trust.signature import SIGNATURE

logger = logging.getLogger(__name__)


def read_trusted(config: DaemonConfig) -> SignedBundle | None:
    """The manifest that a trusted key vouches for; None where there is no signature and none is required.

    Raises:
        BundleError: the bundle is not what such a key signed, others can change it, or its version is an earlier one.
    """
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


def accept(config: DaemonConfig, name: str, version: Version) -> None:
    """Remembers the version of a bundle that was loaded: from here on, none before it is.

    Raises:
        BundleError: it can't be remembered.
    """
    Versions(config.state_folder).accept(name, version)
