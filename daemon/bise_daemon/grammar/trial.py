"""`python -m bise_daemon.grammar.trial`: tries grammars in a process of their own, which may die of them.

A line of JSON in for each, `[kind, text, names of special tokens]`, and one out: the closing that was found, or what is
wrong. What compiles here, over bytes, in bounded time, memory and stack, will where it counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading

from llguidance import LLMatcher

from bise_daemon.errors import RequestError
from bise_daemon.grammar.closing import MOST_BYTES, TRIES_APART, find_closing
from bise_daemon.grammar.format import Format, Kind
from bise_daemon.grammar.limits import LIMITS
from bise_daemon.grammar.spelling import spelling

_MOST_MEMORY_BYTES = 1 << 30
# Half of what threads have elsewhere: a grammar of 20,000 rules, each naming the next, overflows 8 MiB.
_STACK_BYTES = 4 << 20
# Seconds of CPU for one grammar, or the system ends the process; the largest schemas that are no attack take 0.1.
_MOST_CPU_S = 2
# Behind the engine's steps, and before nothing: at the lowest priority a busy device would try a grammar for ever.
_NICENESS = 5


def attempt(form: Format, specials: list[bytes]) -> list[int] | str:
    """The closing of a format, or what is wrong with it."""
    try:
        grammar = form.grammar()
    except RequestError as error:
        return error.message
    matcher = LLMatcher(spelling(specials), grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        return matcher.get_error()
    matcher.compute_bitmask()
    closing = find_closing(matcher, TRIES_APART)
    if closing is None or len(closing) > MOST_BYTES:
        return f"no answer of at most {MOST_BYTES} bytes was found that it accepts"
    return closing


def main() -> None:
    """Answers until there is nothing more to read."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
    for line in sys.stdin:
        kind, text, specials = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        most_s = int(used.ru_utime + used.ru_stime) + 1 + _MOST_CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (most_s, resource.RLIM_INFINITY))
        found = attempt(Format(Kind(kind), text), [name.encode() for name in specials])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
