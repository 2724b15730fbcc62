"""Batch norms folded into the convolutions before them, for inference."""

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unetseg.nn.norm import BatchNorm2d

__all__ = ["fold_batch_norm"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Conv = nn.Conv2d | nn.ConvTranspose2d
Norm = nn.BatchNorm2d | nn.SyncBatchNorm

# these and no descendants, which may do something else besides
_NORMS: tuple[type[Norm], ...] = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNorm2d, BatchNormAct2d)

_TOLERANCE = 0.01  # of TF32, which GPUs convolve in, the epsilon is 0.001


def fold_batch_norm(model: ModuleT, example: Tensor) -> ModuleT:
    """A copy for inference without the batch norms whose work a convolution can do.

    In eval mode a batch norm is a scale and a shift of each channel. Where its input is the result of a convolution, or
    a sum of several, and nothing else sees that result, these go into weights and biases: the copy computes the same,
    but for rounding, and no longer reads and writes a map for each norm.

    What is folded is found by following tensors through one forward, not by names. So a convolution counts, of whatever
    class, whose weights are its parameters as they are, used once in the forward and by it alone. Weights that are
    standardised or blurred first keep their norm, and so do results that a pixel shuffle or an activation changes.

    The copy is compared with the model on the example. If an output differs by more than 1 % of its largest value (of
    half precision: by the square root of its epsilon, 3 % or 9 %), or can't be computed, nothing is folded.

    Args:
        model: A network that computes tensors of an image; it stays as it is. If it is compiled, the copy isn't.
        example: Such an image, on the model's device. A small one will do: the copy takes the sizes the model takes.

    Returns:
        The copy, in eval mode, of the same device and dtypes. It can't load the model's state dict, nor the model its.

    Source: Jacob et al., arXiv:1712.05877, section 3.2; ``torch.nn.utils.fuse_conv_bn_weights``, which knows neither
    sums nor transposed convolutions with groups.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> fold_batch_norm(model, torch.zeros(1, 3, 9, 7))
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): Identity()
          (2): ReLU()
        )
    """
    # in inference mode, operators don't come apart into those that are followed
    with torch.inference_mode(False), torch.no_grad():
        folded = copy.deepcopy(model).eval()
        trace = _Trace(folded)
        expected = trace.run(example)
        pairs = trace.pairs()
        for norm, convs in pairs.items():
            _fold(norm, convs)
        _replace(folded, pairs)
        if pairs and not _agrees(folded, example, expected):
            return copy.deepcopy(model).eval()
    return folded


class _Linear:
    """A parameter of a convolution, or a map that is linear in those of some.

    It keeps the tensor, so that no other gets its id.
    """

    def __init__(self, tensor: Tensor, convs: tuple[Conv, ...]) -> None:
        self.tensor, self.convs, self.used = tensor, convs, False


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped; so its __init__
    """Follows the results of convolutions to the norms that take them.

    Args:
        model: In eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._known: dict[int, _Linear] = {}
        self._spoiled: set[Conv] = set()  # something of theirs is used twice
        self._calls: Counter[Norm] = Counter()
        self._sums: dict[Norm, tuple[Conv, ...]] = {}
        self._in_norm = False

    def run(self, example: Tensor) -> list[Any]:
        """The model's outputs, without their structure."""
        owners = Counter(id(parameter) for _, parameter in self._model.named_parameters(remove_duplicate=False))
        handles = []
        for module in self._model.modules():
            if isinstance(module, Conv):
                for parameter in module.parameters(recurse=False):
                    self._known[id(parameter)] = _Linear(parameter, (module,))
                    if owners[id(parameter)] > 1:
                        self._spoiled.add(module)
            elif type(module) in _NORMS and module.running_mean is not None:
                handles.append(module.register_forward_pre_hook(self._enter_norm))
                handles.append(module.register_forward_hook(self._leave_norm))
        with self:
            outputs = tree_leaves(self._model(example))
        for handle in handles:
            handle.remove()
        self._use(outputs)
        return outputs

    def pairs(self) -> dict[Norm, tuple[Conv, ...]]:
        """Each norm that can be folded, and the convolutions whose sum it takes."""
        return {
            norm: convs
            for norm, convs in self._sums.items()
            if self._calls[norm] == 1 and not self._spoiled.intersection(convs)
        }

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._in_norm:
            used = self._use(tree_leaves((args, kwargs)))
            if convs := _convs_of(func, args, kwargs, used):
                self._known[id(result)] = _Linear(result, convs)
        return result

    def _use(self, values: Iterable[Any]) -> list[_Linear]:
        used = [self._known[id(value)] for value in values if id(value) in self._known]
        for linear in used:
            if linear.used:
                self._spoiled.update(linear.convs)
            linear.used = True
        return used

    def _enter_norm(self, norm: Norm, args: tuple[Any, ...]) -> None:
        self._calls[norm] += 1
        for linear in self._use(args):
            self._sums[norm] = linear.convs
        self._in_norm = True

    def _leave_norm(self, norm: Norm, args: tuple[Any, ...], output: Tensor) -> None:
        self._in_norm = False


def _convs_of(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, used: Sequence[_Linear]
) -> tuple[Conv, ...]:
    """The convolutions that an operator's result is linear in, channel by channel; none where it isn't."""
    aten = torch.ops.aten
    if func is aten.convolution.default:
        own = [c for linear in used for c in linear.convs if args[1] is c.weight and args[2] is c.bias]
        return tuple(own[:1])  # it is found by its weight and by its bias
    maps = [linear for linear in used if not isinstance(linear.tensor, nn.Parameter)]
    if func is aten.slice.Tensor and maps and args[1] > 1:  # rows or columns are cropped
        return maps[0].convs
    if func in (aten.add.Tensor, aten.add_.Tensor) and len(maps) == 2 and not kwargs:
        first, second = (linear.tensor for linear in maps)
        return maps[0].convs + maps[1].convs if (first.shape, first.dtype) == (second.shape, second.dtype) else ()
    return ()


def _fold(norm: Norm, convs: Sequence[Conv]) -> None:
    """Scale all convolutions whose sum is normalised, and shift the first."""
    mean: Any = norm.running_mean  # not None, as was asked before; so the next
    variance: Any = norm.running_var
    scale: Tensor = torch.rsqrt(variance.to(torch.promote_types(variance.dtype, torch.float32)) + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale
    shift = shift if norm.bias is None else shift + norm.bias
    for i, conv in enumerate(convs):
        conv.weight.copy_(_scaled(conv, scale))
        bias = None if conv.bias is None else conv.bias * scale
        if i == 0:
            bias = shift if bias is None else bias + shift
        if bias is not None:
            conv.bias = nn.Parameter(bias.to(conv.weight.dtype), conv.weight.requires_grad)


def _scaled(conv: Conv, scale: Tensor) -> Tensor:
    """The weight with each output channel, of which transposed convolutions hold a group's alone, times its scale."""
    if isinstance(conv, nn.Conv2d):
        return conv.weight * scale[:, None, None, None]
    weight = conv.weight.reshape(conv.groups, -1, *conv.weight.shape[1:])  # (g, C_in / g, C_out / g, K_h, K_w)
    return (weight * scale.view(conv.groups, 1, -1, 1, 1)).flatten(0, 1)


def _replace(model: nn.Module, norms: Iterable[nn.Module]) -> None:
    """Leave of each norm what it does besides."""
    left = {
        norm: nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        for norm in norms
    }
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in left:
                setattr(parent, name, left[child].eval())


def _agrees(model: nn.Module, example: Tensor, expected: Sequence[Any]) -> bool:
    try:
        outputs = tree_leaves(model(example))
    except Exception:  # a model may ask its norm for something that an identity lacks
        return False
    return len(outputs) == len(expected) and all(map(_close, outputs, expected))


def _close(output: Any, expected: Any) -> bool:
    if not isinstance(expected, Tensor) or not expected.is_floating_point() or not expected.numel():
        return True
    tolerance = max(_TOLERANCE, math.sqrt(torch.finfo(expected.dtype).eps))
    difference = (output - expected).abs().max()
    return bool(difference <= tolerance * expected.abs().max())  # not where one is nan
