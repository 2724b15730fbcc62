"""What torch.onnx writes, made fit to be given away: crops that every runtime computes, and no word of its origin."""

from collections.abc import Sequence
from typing import Any

from unetseg.inference.runtimes import INPUT_NAME
from unetseg.nn.upsample.alignment import crop_to

__all__ = ["tidy"]

_TRACE = "pkg.torch.onnx.stack_trace"  # under which torch.onnx notes the lines of code that a node comes from


def tidy(model: Any) -> None:
    """Change an ``onnx_ir.Model`` of an ``ExportedNetwork`` in place.

    Crops become slices: torch writes them as ``Pad`` by negative amounts, which OpenVINO 2026.4 takes for another size
    than it is, and others refuse. Sides of any length get their names. What torch notes of the code, paths of this
    machine among it, is left out.
    """
    graph = model.graph
    for node in list(graph):
        if node.op_type == "Pad" and _comes_from(node, crop_to.__name__):
            _slice_instead(graph, node)
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    _name_sides(graph.inputs[0], ("batch", None, "height", "width"))
    rank = len(graph.outputs[0].shape)
    _name_sides(graph.outputs[0], ("batch", *[None] * (rank - 3), "height", "width"))
    graph.inputs[0].name = INPUT_NAME


def _comes_from(node: Any, function: str) -> bool:
    """Whether a function of this name made the node itself."""
    last_call = node.metadata_props.get(_TRACE, "").rpartition("File ")[2]
    return f"in {function}\n" in last_call or f" {function}(" in last_call


def _slice_instead(graph: Any, pad: Any) -> None:
    """Give the first rows and columns that ``Pad`` by negative amounts leaves."""
    import onnx_ir as ir

    maps, amounts = pad.inputs[:2]  # (N, C, H, W), and what is added before and after each axis
    nodes: list[Any] = []

    def make(operator: str, *inputs: Any) -> Any:
        nodes.append(ir.node(operator, inputs))
        return nodes[-1].outputs[0]

    def constant(*values: int) -> Any:
        nodes.append(ir.node("Constant", [], {"value": ir.tensor(values, dtype=ir.DataType.INT64)}))
        return nodes[-1].outputs[0]

    added = make("Slice", amounts, constant(4), constant(8))  # after each axis
    stops = make("Add", make("Shape", maps), added)
    cropped = make("Slice", maps, constant(0, 0, 0, 0), stops)
    (old,) = pad.outputs
    cropped.name, cropped.shape, cropped.dtype = old.name, old.shape, old.dtype
    old.name = None
    graph.insert_before(pad, nodes)
    ir.convenience.replace_all_uses_with(old, cropped, replace_graph_outputs=True)
    graph.remove(pad, safe=True)


def _name_sides(value: Any, names: Sequence[str | None]) -> None:
    """Name the sides that may be of any length, as torch's own names for them say nothing."""
    for axis, name in enumerate(names):
        if name is not None and not isinstance(value.shape[axis], int):
            value.shape[axis] = name
