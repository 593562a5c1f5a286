"""What compiling and following one grammar may take."""

from __future__ import annotations

from llguidance import LLParserLimits

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=20_000,  # of 1 to 2 KB each
    max_grammar_size=200_000,
    verbose_errors=False,  # they would quote the grammar's state at length
)
