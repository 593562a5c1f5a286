"""What calibration measured, and the curve through it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean

from bise_daemon.cost.curve import Curve
from bise_daemon.cost.line import fit
from bise_daemon.cost.probe import DecodeProbe, PrefillProbe, Probe, VerifyProbe

# What was not measured, or is lost in noise, counts as this share of a lone token's time (a thousand cache entries):
# the cost model corrects by factors, which zero would never feel.
_LEAST_SHARE = 0.01
_LEAST_SHARE_ENTRIES = 1000


@dataclass(slots=True)
class Measurements:
    """Times of probes and copies; a lone token's, `DecodeProbe(1, 0)`, must be among them.

    Attributes:
        times_ms: of each probe, all its repeats.
        copies_ms: of copies between slots, by tokens.
    """

    times_ms: defaultdict[Probe, list[float]] = field(default_factory=lambda: defaultdict(list))
    copies_ms: dict[int, float] = field(default_factory=dict)

    def curve(self) -> Curve:
        """Draws the curve. Of repeats the least counts: neighbours only ever make a step slower."""
        least_ms = {probe: min(times_ms) for probe, times_ms in self.times_ms.items()}
        decode = {(probe.rows, probe.start): ms for probe, ms in least_ms.items() if isinstance(probe, DecodeProbe)}
        prefill = {(probe.tokens, probe.start): ms for probe, ms in least_ms.items() if isinstance(probe, PrefillProbe)}
        verify = {probe.tokens: ms for probe, ms in least_ms.items() if isinstance(probe, VerifyProbe)}
        # A chunk of one token may attend in a way of its own; unmeasured, it is a decode step of one row.
        prefill = {key: ms for key, ms in decode.items() if key[0] == 1} | prefill
        token_ms = decode[1, 0]
        least_entry_ms = _LEAST_SHARE * token_ms / _LEAST_SHARE_ENTRIES

        entry = {size: (ms - prefill[size, 0]) / start for (size, start), ms in prefill.items() if start}
        row_entry = [(ms - decode[rows, 0]) / (rows * start) for (rows, start), ms in decode.items() if start]

        prefill_entry = fit({size: max(least_entry_ms, ms) for size, ms in ({1: least_entry_ms} | entry).items()})
        matrices = fit(
            {size: ms - prefill_entry.at(size) * size / 2 for (size, start), ms in prefill.items() if not start}
        )
        rows = fit(verify | {rows: ms for (rows, start), ms in decode.items() if not start})
        copy_start_ms, copy_token_ms = _copy_line(self.copies_ms)
        return Curve(
            prefill=matrices,
            prefill_entry=prefill_entry,
            # Matrices do not ask whose rows they multiply.
            decode=rows if len(rows.sizes) > 1 else matrices,
            decode_entry_ms=max(least_entry_ms, _mean(row_entry)),
            copy_start_ms=copy_start_ms,
            copy_token_ms=copy_token_ms,
        )


def _mean(values: list[float]) -> float:
    return fmean(values) if values else 0.0


def _copy_line(copies_ms: dict[int, float]) -> tuple[float, float]:
    """What any copy takes, and each of its tokens."""
    if not copies_ms:
        return 0.0, 0.0
    (few, few_ms), (many, many_ms) = min(copies_ms.items()), max(copies_ms.items())
    return few_ms, max(0.0, many_ms - few_ms) / (many - few)
