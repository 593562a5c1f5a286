"""README's table of measurements, made from the committed results: `python -m tests.bench.readme` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- measured: python -m tests.bench.readme -->\n", "<!-- /measured -->\n"


def table(results: Path = RESULTS) -> str:
    """The Markdown of the results in a folder."""
    decode, client, quality = (_read(results / f"{name}.json") for name in ("decode", "client", "quality"))
    ms = {name: row["median"] for name, row in (decode["summary"] | client["summary"]).items()}
    cost = quality["table"]
    machine = decode["machine"]
    lines = [
        f"{machine['cores']} cores of {machine['cpu']}, {', '.join(machine['vector_extensions'])}; "
        + "; ".join(f"{name} {machine['packages'][name]}" for name in ("onnxruntime", "llama-cpp-python"))
        + "; "
        "SmolLM2-135M-Instruct; medians of interleaved rounds.",
        "",
        "| what | bise | beside it | ratio | command |",
        "|---|---|---|---|---|",
    ]
    for name, kind in (
        ("int4", "Q4_0"),
        ("int8, int8 activations", "Q8_0"),
        ("int8", "Q8_0"),
    ):
        ratio = decode["ratios"][f"llama.cpp {kind} / bise {name}"]
        peer = ms[f"llama.cpp {kind}, beside {name}"]
        lines.append(
            f"| decode, one row, {name} | {ms[f'bise {name}']:.2f} ms a token "
            f"| llama.cpp {kind}: {peer:.2f} ms | {ratio:.2f} | `python -m tests.bench decode` |"
        )
    ratio = client["ratios"]["SDK tokens/s / engine loop tokens/s"]
    lines.append(
        f"| tokens/s at the SDK, unix socket | {1e3 / ms['SDK over unix socket']:.0f} "
        f"| engine loop alone: {1e3 / ms['engine loop']:.0f} | {ratio:.2f} | `python -m tests.bench client` |"
    )
    for name, peer in (
        ("int4, int8 activations, int8 cache", "Q4_0"),
        ("size of Q4_0, int8 activations, int8 cache", "Q4_0"),
        ("size of Q4_K_M, int8 activations, int8 cache", "Q4_K_M"),
        ("int8, int16 activations, float32 cache", "Q8_0"),
    ):
        kind = name.replace("size of", "`--fit` the size of")
        lines.append(
            f"| mean KL and top-1, {kind} | {_cost(cost[f'bise {name}'])} "
            f"| llama.cpp {peer}: {_cost(cost[f'llama.cpp {peer}'])} | | `python -m tests.bench quality` |"
        )
    lines.append(_export(_read(results / "exporters.json")))
    lines.append(_load(_read(results / "latency.json")))
    return "\n".join(lines) + "\n"


def rendered(readme: str) -> str:
    """The README with the table in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _load(latency: dict[str, Any]) -> str:
    met = {(run["server"], run["load"]): f"{run['met_share']:.0%}" for run in latency["runs"]}
    bise, peer = (", ".join(met[server, load] for load in (1, 2, 4)) for server in ("bise", "llama-server"))
    offered = max(run["offered"] for run in latency["runs"])
    return (
        f"| requests that met all their budgets, at 1, 2 and 4 times capacity | {bise} | llama-server: {peer} | "
        f"| `python -m tests.bench.latency --requests {offered}` |"
    )


def _export(exporters: dict[str, Any]) -> str:
    taken = {name: f"{row['seconds']:.0f} s, {row['peak GiB']:.2g} GiB" for name, row in exporters["table"].items()}
    name = "onnxruntime-genai's builder"
    time, peak = (exporters["ratios"][f"{figure} of {name} / bise's"] for figure in ("time", "peak"))
    return (
        f"| 1.3 B parameters to int4, time and peak memory | {taken['bise']} | {name}: {taken[name]} "
        f"| {time:.2f}, {peak:.0f} | `python -m tests.bench.exporters` |"
    )


def _cost(row: dict[str, float]) -> str:
    return f"{row['mean_kl']:.2g} nats, {row['top1_agreement']:.1%}, {row['size_mb']:.0f} MB"


if __name__ == "__main__":
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
