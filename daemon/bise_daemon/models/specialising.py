"""Which graph is loaded: the bundle's own, or the one that a first start made of it for this device."""

from __future__ import annotations

import logging
from pathlib import Path

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.cost.record import cpu_kinds
from bise_daemon.engine.kv import KvCache
from bise_daemon.engine.runner import Logits
from bise_daemon.engine.session import Session, SessionError, runtime_version
from bise_daemon.loading import Loading
from bise_daemon.models.check import CheckedBundle
from bise_daemon.specialise.store import Store
from bise_proto.bundle import check_files

logger = logging.getLogger(__name__)

# Weights of 1 GB are repacked in about a second: below that, there is little to gain for a second copy on disk.
_AUTO_BYTES = 1_000_000_000
# onnxruntime reads and packs in one call that tells nothing: 3.3 s for a GB of 24 B on two cores. Ten times that is for
# slow disks; more is a disk that does not answer.
_LOAD_PATIENCE_S, _LOAD_PATIENCE_PER_GB_S = 60.0, 30.0
# What onnxruntime chooses kernels by, and with them how they pack.
CPU_FEATURES = frozenset(("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features"))


class Specialising:
    """The way from a checked bundle to a session that has run its first step; what is specialised never fails it.

    Args:
        config: whether to specialise, and where.
        loading: hears how it gets on.
    """

    def __init__(self, config: DaemonConfig, loading: Loading) -> None:
        self._config = config
        self._loading = loading

    def find(self, manifest: bytes) -> Path | None:
        """What a former start made, if it is whole and ours."""
        return self._store(manifest).find(thorough=self._config.verify == "full") if self._wanted else None

    def open(self, checked: CheckedBundle, cache: KvCache) -> tuple[Session, bool]:
        """A session that is ready for steps, and whether it is of the specialised graph.

        Raises:
            SessionError: the bundle's own graph can't be loaded or run.
            BundleError: the bundle's weights, which are needed after all, are not those of the manifest.
        """
        store = self._store(checked.manifest)
        specialised = checked.specialised
        if specialised is None and self._pays(checked):
            specialised = store.make(checked.folder / checked.bundle.graph.model_file, _weight_bytes(checked))
        if specialised is not None:
            try:
                session, logits = self._started(checked, cache, specialised)
                if not store.confirms(logits):
                    raise SessionError("expected the logits of its first start, got others.")
                return session, True
            except (SessionError, OSError) as error:
                logger.warning("%s: removed, and the weights are repacked: %s", specialised.parent, error)
                store.discard()
        if checked.specialised is not None:
            # Was spared, since nobody was to read them.
            for _ in check_files(checked.folder, checked.bundle, (), self._loading.advance):
                pass
        return self._started(checked, cache, None)[0], False

    @property
    def _wanted(self) -> bool:
        return self._config.specialise != "never"

    def _pays(self, checked: CheckedBundle) -> bool:
        if not self._wanted or checked.bundle.graph.target != "cpu":
            return False
        return self._config.specialise == "always" or _weight_bytes(checked) >= _AUTO_BYTES

    def _started(self, checked: CheckedBundle, cache: KvCache, specialised: Path | None) -> tuple[Session, Logits]:
        gigabytes = _weight_bytes(checked) / 1e9
        self._loading.begin("loading weights", _LOAD_PATIENCE_S + _LOAD_PATIENCE_PER_GB_S * gigabytes)
        session = Session(checked.folder, checked.bundle, cache, self._config.threads or 0, specialised)
        self._loading.begin("running a first step", _LOAD_PATIENCE_S)
        # A first step pays for what onnxruntime sets up lazily, before anyone waits for it.
        logits = session.decode(0, [0], [0])
        cache.release(0)
        return session, logits

    def _store(self, manifest: bytes) -> Store:
        folder = self._config.cache_folder / "specialised"
        runtime = f"onnxruntime {runtime_version()}"
        return Store(folder, manifest, runtime, cpu_kinds(CPU_FEATURES), self._loading)


def _weight_bytes(checked: CheckedBundle) -> int:
    files = checked.bundle.files
    return sum(file.size_bytes for file in files if file.path in checked.bundle.graph.weight_files)
