"""The fixed texts an export is calibrated on and, apart from those, verified on; and how a bundle tokenizes them.

Two disjoint sets, so that no figure of an accuracy report is measured on text that the scales were fitted to. Changing
a text changes every reported figure: add a set rather than edit one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

from bise_export.errors import ExportError
from bise_proto.v1 import bundle_pb2

CALIBRATION = (
    # Facts.
    "The Danube rises in the Black Forest of Germany and flows east for almost 2,850 kilometres, through ten countries "
    "and four capitals, before it reaches the Black Sea. Barges carry grain, ore and gravel on it, and since 1992 a "
    "canal has joined it to the Main and so to the Rhine.",
    # Code.
    "def moving_average(values: list[float], width: int) -> list[float]:\n"
    '    """Means of every `width` neighbours."""\n'
    "    if not 0 < width <= len(values):\n"
    '        raise ValueError(f"width must be from 1 to {len(values)}, got {width}")\n'
    "    total = sum(values[:width])\n"
    "    means = [total / width]\n"
    "    for old, new in zip(values, values[width:]):\n"
    "        total += new - old\n"
    "        means.append(total / width)\n"
    "    return means\n",
    # Dialogue.
    '"Did you lock the workshop?" asked Ines. "I thought you had the key," said her brother, and patted every '
    'pocket he owned. "Then who," she said slowly, "turned off the lights?" Neither of them moved. Somewhere '
    "behind the door a drill began to turn, stopped, and began again.",
    # Numbers.
    "Invoice 20871: 12 hinges at 3.45 each make 41.40; 6 handles at 11.90 make 71.40; 250 screws at 0.04 make 10.00. "
    "The sum is 122.80, less 5% for prompt payment (6.14), which leaves 116.66. With 20% tax the customer pays 139.99 "
    "by 31 March 2024.",
    # French and German.
    "Le train de nuit part à vingt-deux heures dix et arrive le lendemain matin, s'il n'a pas trop neigé sur le col. "
    "Die Fahrkarten kauft man besser vorher, denn im Sommer sind die Abteile oft schon Wochen im Voraus ausgebucht.",
    # A chat, as ChatML writes it.
    "<|im_start|>user\nMy bicycle squeaks when I pedal uphill. What should I check first?<|im_end|>\n"
    "<|im_start|>assistant\nStart with the chain: wipe it, put one drop of oil on each link, and turn the pedals for a "
    "minute. If it still squeaks, check whether the pedals and the bolts of the chainrings are tight.<|im_end|>\n",
    # A list, with the marks of a document.
    "## Before the first start\n\n1. Remove the four red transport locks.\n2. Level the machine; the bubble must stay "
    "between the marks.\n3. Connect water (2 to 8 bar) and power (230 V, 16 A).\n\n> **Note:** run one empty cycle at "
    "60 °C, with no detergent.\n\n| lamp | meaning |\n|---|---|\n| green | ready |\n| amber | door open |\n",
    # Reasoning.
    "Suppose every even number above two is the sum of two primes. Then six is three plus three, eight is three plus "
    "five, and ten can be written in two ways. To refute the claim one would need a single counterexample; to prove "
    "it, checking cases will never be enough, however many there are, because there is always a next one.",
)
"""Texts that KV scales are fitted to."""

VERIFICATION = (
    # Facts.
    "Coffee plants grow best between the tropics, at heights where the nights are cool and frost never comes. After "
    "the harvest the cherries are pulped, fermented and dried, and the green beans are shipped in jute sacks; only "
    "near the place where it will be drunk is the coffee roasted, because the aroma fades within weeks.",
    # Code.
    "SELECT station, COUNT(*) AS days, AVG(rain_mm) AS mean_rain\n"
    "FROM measurements\n"
    "WHERE taken_at >= '2021-01-01' AND rain_mm IS NOT NULL\n"
    "GROUP BY station\n"
    "HAVING COUNT(*) > 300\n"
    "ORDER BY mean_rain DESC\n"
    "LIMIT 10;\n\n"
    "fn area(points: &[(f64, f64)]) -> f64 {\n    // The shoelace formula.\n    let mut twice = 0.0;\n",
    # Dialogue.
    'The captain looked at the chart for a long time. "How much water under us?" she asked. "Four metres, and the '
    'tide is falling," said the mate. "Then we leave now, or we leave on Thursday." He was already on his way to the '
    "engine room when the first gust came down the valley.",
    # Numbers.
    "At 08:15 the tank held 1,480 litres. By 09:45 it held 1,255 litres, so the pump moves 150 litres an hour. At that "
    "rate the tank reaches the reserve of 200 litres after another 7 hours and 2 minutes, at 16:47. Readings: 1480, "
    "1405, 1330, 1255, 1180.",
    # Spanish and Italian.
    "El mercado abre a las siete y a mediodía ya no queda pescado fresco; por eso mi abuela salía de casa antes del "
    "amanecer. Oggi il mercato è coperto e riscaldato, ma i pescatori raccontano ancora le stesse storie, e ogni anno "
    "il pesce diventa più grande.",
    # A chat, as ChatML writes it.
    "<|im_start|>user\nWhat is the capital of France, and which river runs through it?<|im_end|>\n"
    "<|im_start|>assistant\nThe capital of France is Paris, and the river Seine runs through it from the south-east "
    "to the west.<|im_end|>\n<|im_start|>user\nHow long is that river?<|im_end|>\n<|im_start|>assistant\n",
    # Structured data.
    '{"device": "press-07", "firmware": "4.2.1", "alarms": [{"code": "E113", "text": "oil temperature high", '
    '"since": "2023-11-05T14:02:31Z", "value": 81.5, "limit": 75.0}], "cycles": 918273, "next_service_in_hours": 46, '
    '"operator": null, "ok": false}',
    # Reasoning.
    "If the parcel was posted on Monday, it would have arrived by Wednesday, unless the office was closed. The office "
    "was open all week. The parcel had not arrived on Thursday. Therefore it was not posted on Monday, and since "
    "nobody posts parcels on Sunday, either it went out on Tuesday or later, or it never left the shelf at all.",
)
"""Texts that accuracy is measured on."""

Encoder = Callable[[str], list[int]]


def token_prompts(folder: Path, tokenizer: bundle_pb2.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every text, by the tokenizer that lies in the bundle's folder; bos first if the manifest asks.

    Raises:
        ExportError: the tokenizer is missing or broken, or of a kind that needs a package not installed.
    """
    path = folder / tokenizer.file
    if tokenizer.kind not in _ENCODERS:
        known = ", ".join(bundle_pb2.Tokenizer.Kind.Name(kind) for kind in _ENCODERS)
        kind = bundle_pb2.Tokenizer.Kind.Name(tokenizer.kind)
        raise ExportError(f"{path}: expected a tokenizer of kind {known}, got {kind}. Export the model again.")
    if not path.is_file():
        raise ExportError(f"{path}: expected the bundle's tokenizer, found no file. Export the model again.")
    encode = _ENCODERS[tokenizer.kind](path)
    bos = [tokenizer.bos_token_id] if tokenizer.add_bos and tokenizer.HasField("bos_token_id") else []
    return [bos + encode(text) for text in texts]


def _tokenizers(path: Path) -> Encoder:
    with _reading(path):
        tokenizer = Tokenizer.from_file(str(path))
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _tekken(path: Path) -> Encoder:
    if find_spec("mistral_common") is None:
        raise _missing(path, "bise[daemon]")
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    with _reading(path):
        tokenizer = Tekkenizer.from_file(path)
    return lambda text: tokenizer.encode(text, bos=False, eos=False)


def _sentencepiece(path: Path) -> Encoder:
    if find_spec("mistral_common") is None or find_spec("sentencepiece") is None:  # the first comes without the second
        raise _missing(path, "mistral-common[sentencepiece]")
    from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer

    with _reading(path):
        tokenizer = SentencePieceTokenizer(path)
    return lambda text: tokenizer.encode(text, bos=False, eos=False)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the libraries raise whatever comes, up to a bare Exception
        raise ExportError(f"{path}: not a tokenizer of its kind: {error}. Export the model again.") from error


def _missing(path: Path, package: str) -> ExportError:
    return ExportError(f"{path}: reading this tokenizer needs another package: pip install '{package}'")


_ENCODERS: Mapping[bundle_pb2.Tokenizer.Kind, Callable[[Path], Encoder]] = {
    bundle_pb2.Tokenizer.TOKENIZERS: _tokenizers,
    bundle_pb2.Tokenizer.TEKKEN: _tekken,
    bundle_pb2.Tokenizer.SENTENCEPIECE: _sentencepiece,
}
