"""What an answer took, in one line, beside what was predicted."""

from __future__ import annotations

from bise.types import Result


def timings_line(result: Result) -> str:
    """Tokens and times, and what was saved of them where something was.

    The predicted total is that of the whole grant: an answer that came to its end before it takes less.
    """
    accepted, usage, timings = result.accepted, result.usage, result.timings
    first, total = f"first after {timings.first_token_ms:.0f} ms", f"{timings.total_ms / 1000:.2f} s in all"
    if accepted.predicted_first_token_ms:
        first += f" ({accepted.predicted_first_token_ms:.0f} predicted)"
    if accepted.predicted_total_ms:
        total += f" ({accepted.predicted_total_ms / 1000:.2f} predicted for {accepted.granted_max_tokens})"
    parts = [f"{usage.completion_tokens} tokens", first, f"{timings.tokens_per_second:.1f} tokens/s", total]
    if usage.cached_tokens:
        parts.append(f"{usage.cached_tokens} of {usage.prompt_tokens} prompt tokens cached")
    if usage.draft_tokens:
        parts.append(f"{usage.accepted_draft_tokens} of {usage.draft_tokens} drafted tokens accepted")
    return " · ".join(parts)
