"""`bise export` and `bise package`: what makes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bise_export.errors import ExportError
from bise_export.one_line import one_line_errors

if TYPE_CHECKING:
    from bise_export.planning import Goal


def export(
    source: Annotated[Path, typer.Argument(help="A .gguf file, or a folder of safetensors (Hugging Face, Mistral).")],
    out: Annotated[Path, typer.Argument(help="Where the bundle goes; nothing may be there yet.")],
    precision: Annotated[
        Literal["int4", "int8", "fp16", "fp32"] | None,
        typer.Option(help="Of the weights; int4 if none of --precision, --bits and --fit is given."),
    ] = None,
    bits: Annotated[
        float | None,
        typer.Option(
            help="Choose 2, 4 or 8 bits and a block size for each matrix, by what they cost: at most so many bits on "
            "average for each parameter of the model, scales and zero points included."
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help="The same, for a bundle of at most this size, for instance 10GiB: all its files together, without the "
            "memory that serving takes."
        ),
    ] = None,
    block_size: Annotated[
        Literal["32", "64", "128"], typer.Option(help="Weights that share a scale; see the note below.")
    ] = "32",
    kv: Annotated[
        Literal["int8", "fp16", "fp32"] | None,
        typer.Option(help="Of the KV cache; if not given: int8 for int4 weights, else fp32; on cuda fp16."),
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a row may hold, at most those trained for.")] = None,
    activations: Annotated[
        Literal["int8", "int16"] | None,
        typer.Option(help="On cpu: int8 is faster, int16 loses almost nothing; int16 for int8 weights, else int8."),
    ] = None,
    vocabulary: Annotated[
        Literal["int4", "int8", "graded"] | None,
        typer.Option(
            help="Of int4 weights' embedding and head: graded if not given, int8 for frequent tokens and int4 for rare "
            "ones; int8 loses a little less and is a tenth slower, int4 loses more."
        ),
    ] = None,
    prompt_attention: Annotated[
        Literal["fused", "float"] | None,
        typer.Option(
            help="Of prompts, over an int8 cache on cpu: float is faster behind long contexts, but an answer's tokens "
            "are computed again in the next prompt; if not given, where it pays: below some 4 billion parameters."
        ),
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="int4 without zero points: smaller by a fortieth, and it loses more.")
    ] = False,
    rounding: Annotated[
        Literal["nearest", "compensated"] | None,
        typer.Option(
            help="Of 2- and 4-bit weights: compensated has columns make up for each other, which loses a quarter less "
            "at the same size and takes several times as long; if not given: compensated with --bits and --fit below "
            "some 4 billion parameters."
        ),
    ] = None,
    target: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the bundle will run.")] = "cpu",
    interop: Annotated[
        Literal["genai"] | None,
        typer.Option(help="Another engine that is to open the bundle too: genai adds what onnxruntime-genai needs."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the checkpoint's if not given.")] = None,
    version: Annotated[str, typer.Option(help="The bundle's version, such as 2 or 1.4.0.")] = "1",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    verify: Annotated[
        bool | None,
        typer.Option(help="Measure accuracy too, which loads the graph; if not given, when that takes little memory."),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="The most memory to hold, for instance 4GiB; refused if it can't be kept.")
    ] = None,
) -> None:
    """Turn a checkpoint into a quantized ONNX bundle.

    Blocks of 64 and 128 are smaller and faster than 32 and lose more. With int4 they also cost a promise: an answer may
    differ in its last bits, and so at times in a token, between running alone and in a batch. With --bits or --fit they
    are the largest blocks that 4 bits may have, at the same price.
    """
    from rich.console import Console

    from bise_export.budget import parse_size
    from bise_export.page import size
    from bise_export.pipeline import ExportOptions
    from bise_export.pipeline import export as run
    from bise_export.progress import Bar

    console = Console(stderr=True)
    with one_line_errors("export"):
        goal = _goal(precision, bits, fit)
        options = ExportOptions(
            precision="mixed" if goal else precision or "int4",
            goal=goal,
            block_size=int(block_size),
            kv=kv,
            prompt_attention=prompt_attention,
            context=context,
            activations=activations,
            vocabulary=vocabulary,
            symmetric=symmetric,
            rounding=rounding,
            target=target,
            interop=interop,
            name=name,
            version=version,
            overwrite=overwrite,
            verify=verify,
            max_memory_bytes=None if max_memory is None else parse_size(max_memory, "--max-memory"),
        )
        try:
            with Bar(console) as bar:
                bundle = run(source, out, options, bar)
        except KeyboardInterrupt:
            typer.echo("bise export: interrupted; the same command goes on from here.", err=True)
            raise typer.Exit(130) from None
    weights = bundle.quantization
    console.print(
        f"[bold]{bundle.name}[/] → {out}: {size(sum(file.size_bytes for file in bundle.files))}, "
        f"{weights.bits_per_weight:.2f} bits per weight"
    )
    for note in bundle.provenance.notes:
        console.print(f"note: {note}", markup=False)


def package(
    model: Annotated[Path, typer.Argument(help="An .onnx decoder with Hugging Face's inputs and outputs.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the bundle goes; FOLDER.bundle here.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's folder; the model's if not given.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a row may hold, at most those trained for.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; the model's folder's if not given.")] = None,
    version: Annotated[str, typer.Option(help="The bundle's version.")] = "1",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
) -> None:
    """Wrap a decoder made by another exporter (onnxruntime-genai's builder, optimum) into a bundle.

    Weights and operators stay as they are; what is around them becomes as the daemon calls it, and is proved to say the
    same. config.json or genai_config.json must be beside the model.
    """
    from rich.console import Console

    from bise_export.package import PackageOptions
    from bise_export.package import package as run
    from bise_export.page import size
    from bise_export.progress import Bar

    console = Console(stderr=True)
    out = out or Path(f"{model.resolve().parent.name}.bundle")
    with one_line_errors("package"):
        options = PackageOptions(tokenizer, context, name, version, overwrite)
        with Bar(console) as bar:
            bundle = run(model, out, options, bar)
    console.print(f"[bold]{bundle.name}[/] → {out}: {size(sum(file.size_bytes for file in bundle.files))}")
    for note in bundle.provenance.notes:
        console.print(f"note: {note}", markup=False)


def _goal(precision: str | None, bits: float | None, fit: str | None) -> Goal | None:
    from bise_export.budget import parse_size
    from bise_export.planning import Bits, Fit

    given = {"--precision": precision, "--bits": bits, "--fit": fit}
    if len(named := [name for name, value in given.items() if value is not None]) > 1:
        raise ExportError(f"expected one of {', '.join(given)}, got {' and '.join(named)}. Leave out all but one.")
    if bits is not None:
        return Bits(bits)
    return None if fit is None else Fit(parse_size(fit, "--fit"))
