"""Whatever lies in the daemon's configuration and state: it is read, told as a problem, or made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from bise_daemon.config.load import load_config
from bise_daemon.config.problem import ConfigError
from bise_daemon.cost import record
from bise_daemon.cost.curve import Curve
from bise_daemon.cost.line import Line
from bise_daemon.engine.kv import CacheShape, KvCache
from bise_daemon.models.versions import FILE, Versions
from bise_daemon.prefixes.store import PrefixStore
from bise_daemon.state import sealed, unsealed
from bise_proto.bundle import BundleError
from property.hostile import FUZZ, changed_bytes, hostile_json, survives

pytestmark = pytest.mark.slow

CURVE = Curve(Line((1, 8, 64), (1.0, 2.0, 9.0)), Line((1,), (0.01,)), Line((1, 4), (1.0, 3.0)), 0.001, 0.1, 0.01)
EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "bise.yaml"
YAML = tuple(
    word.encode()
    for word in (
        "&a ", "*a", "!!python/object:os.system ", "!!binary ", "!!timestamp x", "<<: {slots: 1}\n", "? ", "- ", ": ",
        "[", "{", "[" * 500, "- " * 500, "{a: " * 500, "---\n", "...\n", "%YAML 9.9\n", "|\n", ">\n", "'", '"', "#",
        "\t", "\0", "\N{BOM}", "\x85", "2001-99-99", "1:99:99", "0x" + "f" * 5000, "9" * 5000, "1e999", ".nan", ".inf",
        "~", "yes", "0o7", "1_0", "slots: .inf\n", "step_ms: .nan\n", "threads: 2001-99-99\n", "slots: 1:99:99\n",
        "prefixes: [{}]\n", "listen: tcp://[\n", "listen: tcp://a:99999\n", "listen: unix:///" + "a" * 200 + "\n",
        'bundle: "\\0"\n', 'bundle: "\\ud800"\n', "trusted_keys: [3]\n",
    )
)  # fmt: skip


@FUZZ
@given(data=st.data())
def test_any_configuration(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "bise.yaml"
    path.write_bytes(data.draw(changed_bytes(EXAMPLE.read_bytes(), words=YAML)))
    survives(lambda: load_config(path), ConfigError)


@FUZZ
@given(data=st.data(), whole=st.booleans())
def test_any_calibration(tmp_path: Path, data: st.DataObject, whole: bool) -> None:
    record.save(tmp_path, "k" * 64, CURVE)
    (path,) = tmp_path.glob("*.calibration.json")
    content = path.read_bytes()
    if whole:  # damage that whoever made it sealed again
        path.write_bytes(sealed(data.draw(hostile_json(unsealed(content)))))
    else:
        path.write_bytes(data.draw(changed_bytes(content)))
    survives(lambda: record.load(tmp_path, "k" * 64))


@FUZZ
@given(data=st.data())
def test_any_prefix(tmp_path: Path, data: st.DataObject) -> None:
    cache = KvCache(CacheShape(2, 2, 8, np.dtype("int8"), 1, 64))
    store = PrefixStore(tmp_path, "0" * 64, "onnxruntime 1", cache.shape)
    store.save([1, 2, 3], cache.pieces(0, 3))
    (path,) = tmp_path.glob("prefix-*")
    path.write_bytes(data.draw(changed_bytes(path.read_bytes())))
    survives(lambda: store.load([1, 2, 3], cache.pieces(0, 3)))


@FUZZ
@given(data=st.data(), whole=st.booleans())
def test_any_versions(tmp_path: Path, data: st.DataObject, whole: bool) -> None:
    (tmp_path / FILE).unlink(missing_ok=True)
    versions = Versions(tmp_path)
    versions.accept("tiny", Version("2.0"))
    content = (tmp_path / FILE).read_bytes()
    changed = sealed(data.draw(hostile_json(unsealed(content)))) if whole else data.draw(changed_bytes(content))
    (tmp_path / FILE).write_bytes(changed)
    survives(lambda: versions.accepted("tiny"), BundleError)
