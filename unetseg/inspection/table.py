"""An inspection as text: aligned columns that fit 110 characters, and what the signs in them mean."""

import textwrap
from collections.abc import Sequence

from unetseg.columns import WIDTH, align
from unetseg.inspection.measure import EncoderRow, Inspection, Upsampling

__all__ = ["render_table"]

_NAMES = [
    "stage",
    "from",
    "rounding",
    "kernel",
    "stride",
    "padding",
    "to",
    "H",
    "W",
    "skip",
    "out",
    "parameters",
    "GFLOPs",
]
_GROUPS = {"H": "output padding", "skip": "channels"}
_LEFT = {"stage", "rounding"}

_SIGNS = (
    "Output padding is signed, at the bottom (H) and the right (W) only: +1, one row beyond the layer's natural size "
    "is computed; -1, its last row is left away; 0, it fits."
)
_METHODS = {
    "blurred_conv_transpose": "Kernel and padding of a blurred layer are those of the blurred kernel, which runs.",
    "pixel_shuffle": "Kernel and padding of a pixel shuffle are those of the transposed convolution that it is.",
    "nearest": "Interpolation stretches its map to the wanted size, so it has no output padding.",
    "bilinear": "Interpolation stretches its map to the wanted size, so it has no output padding.",
}


def render_table(inspection: Inspection, *, decoder: str, methods: Sequence[str], notes: Sequence[str] = ()) -> str:
    """The table that ``inspect`` prints.

    Args:
        inspection: What was measured.
        decoder: Name of the decoder.
        methods: Names of the upsampling methods in use.
        notes: Warnings of the network, each shown whole under the table.

    Returns:
        Lines of at most 110 characters, up to sides of four digits.
    """
    height, width = inspection.size
    methods = list(dict.fromkeys(methods))
    parts = [
        f"image {height}x{width} (HxW), in inference; a multiply-add counts as 2 FLOPs",
        "",
        *_encoder_lines(inspection.encoder),
        "",
        *_paragraph(f"decoder {decoder}, upsampling by {', '.join(methods)}; stage 0 is the deepest"),
        *_stage_lines(inspection),
        "",
        *_paragraph(_SIGNS),
        *dict.fromkeys(_METHODS[name] for name in methods if name in _METHODS),
    ]
    if empty := _bias_only(inspection.upsamplings):
        parts += ["", *_paragraph(f"No input reaches these, so that they hold the bias alone at this size: {empty}.")]
    for note in notes:
        parts += ["", *_paragraph(f"warning: {note}")]
    return "\n".join(parts) + "\n"


def _encoder_lines(encoder: EncoderRow) -> list[str]:
    contents = [
        str(channels) if channels else "image" if stride == 1 else "none"
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    rows = [
        ["stride", *map(str, encoder.strides)],
        ["size", *(f"{height}x{width}" for height, width in encoder.sizes)],
        ["channels", *contents],
    ]
    padded = f", padded by itself to multiples of {encoder.padded_to}" if encoder.padded_to > 1 else ""
    return [
        *_paragraph(
            f"encoder {encoder.name}, depth {encoder.depth}: {encoder.parameters:,} parameters, "
            f"{_giga(encoder.flops)} GFLOPs; takes {encoder.min_size}x{encoder.min_size} and more{padded}"
        ),
        *align(rows, left={0}),
    ]


def _stage_lines(inspection: Inspection) -> list[str]:
    rows = []
    for i, stage in enumerate(inspection.stages):
        name = str(i) if stage.nodes == 1 else f"{i} ({stage.nodes} nodes)"
        channels = [str(stage.skip_channels or "-"), str(stage.out_channels)]
        rows.append([name, *_upsampling_cells(stage.upsampling), *channels, *_costs(stage.parameters, stage.flops)])
    for head in (inspection.head, *inspection.auxiliary_heads):
        name = head.name.replace("auxiliary head", "aux.")
        cells = ["-"] * 8 if head.upsampling is None else _upsampling_cells(head.upsampling)
        rows.append([name, *cells, "-", str(head.classes), *_costs(head.parameters, head.flops)])
    encoder = inspection.encoder
    rows.append(["encoder", *[""] * 10, *_costs(encoder.parameters, encoder.flops)])
    rows.append(["total", *[""] * 10, *_costs(inspection.parameters, inspection.flops)])
    lines = align([_NAMES, *rows], left={i for i, name in enumerate(_NAMES) if name in _LEFT})
    lines = [_group_line(lines[0]), *lines]
    if inspection.auxiliary_heads:
        lines.append("Auxiliary heads (aux.) run in training only; the total of FLOPs is without them.")
    return lines


def _upsampling_cells(layer: Upsampling) -> list[str]:
    source, wanted = ("x".join(map(str, pair)) for pair in (layer.source, layer.wanted))
    if not layer.axes:
        return [source, layer.rounding, "-", "-", "-", wanted, "-", "-"]
    kernels, strides, paddings, dilations = zip(*layer.axes, strict=True)
    kernel = _pair(kernels) if set(dilations) == {1} else f"{_pair(kernels)} d{_pair(dilations)}"
    signs = [f"{rows:+d}" if rows else "0" for rows in layer.output_padding or ()]
    return [source, layer.rounding, kernel, _pair(strides), _pair(paddings), wanted, *signs]


def _pair(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def _costs(parameters: int, flops: int) -> list[str]:
    return [f"{parameters:,}", _giga(flops)]


def _giga(flops: int) -> str:
    return f"{flops / 1e9:.3f}"


def _group_line(header: str) -> str:
    """The line over the header: a name over two columns that belong together, ending where the second does."""
    line, end, group = "", 0, ""
    for name in _NAMES:
        end = header.index(name, end) + len(name)
        if group:
            line = line.ljust(end - len(group)) + group
        group = _GROUPS.get(name, "")
    return line


def _bias_only(layers: Sequence[Upsampling]) -> str:
    places = []
    for layer in layers:
        counts = [
            f"{count} {name}{'s' if count > 1 else ''}"
            for count, name in zip(layer.bias_only or (), ("row", "column"), strict=False)
            if count
        ]
        if counts:
            places.append(f"{layer.label}: {' and '.join(counts)}")
    return "; ".join(places)


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
