"""The contenders' models, made once from the same checkpoint and kept in the cache."""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.silent import Silent

from bise_export.pipeline import ExportOptions, export

if TYPE_CHECKING:
    import llama_cpp

CACHE = Path(os.environ.get("BISE_CACHE", ".cache")).absolute()
GGUF = CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def bundle(options: ExportOptions) -> Path:
    """The checkpoint's bundle with these options, exported anew: a bench must not measure an older export."""
    choices = (
        options.goal or options.precision,
        options.block_size,
        options.activations,
        options.vocabulary,
        options.kv,
        options.prompt_attention,
    )
    folder = CACHE / "bench" / "-".join(str(choice or "default").replace(" ", "=") for choice in choices)
    folder.parent.mkdir(parents=True, exist_ok=True)
    export(GGUF, folder, replace(options, overwrite=True, verify=False), Silent())
    return folder


def gguf(kind: str) -> Path:
    """The checkpoint as llama.cpp requantizes it, for instance `Q4_0`."""
    import llama_cpp

    path = CACHE / "bench" / f"{kind}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        parameters.allow_requantize = True
        partial = path.with_suffix(".partial")
        failed = llama_cpp.llama_model_quantize(str(GGUF).encode(), str(partial).encode(), ctypes.byref(parameters))
        if failed:
            raise RuntimeError(f"{GGUF}: llama.cpp could not make {kind} of it")
        partial.rename(path)
    return path


def llama(path: Path, context: int, threads: int, **more: object) -> llama_cpp.Llama:
    """llama.cpp on a GGUF file, with as many threads as the others."""
    import llama_cpp

    return llama_cpp.Llama(str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False, **more)
