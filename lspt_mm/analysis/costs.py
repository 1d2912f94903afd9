"""What a computation costs, counted instead of timed: FLOPs, and bytes kept for backward."""

from typing import Any, Callable, Dict, List

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

_aten = torch.ops.aten
#: PyTorch's own formulas, and the CPU's fused attention, which has none there.
FORMULAS = dict(flop_registry)
FORMULAS[_aten._scaled_dot_product_flash_attention_for_cpu] = sdpa_flop
FORMULAS[_aten._scaled_dot_product_flash_attention_for_cpu_backward] = sdpa_backward_flop


class _Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.flops: Dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in FORMULAS:
            name = packet.__name__
            flops = FORMULAS[packet](*args, **kwargs, out_val=out)
            self.flops[name] = self.flops.get(name, 0) + flops
        return out


def count_flops(run: Callable[[], Any]) -> Dict[str, int]:
    """FLOPs of all matrix products, convolutions and attention in ``run()``, by operation.

    A product of (m, k) and (k, n) has 2 m k n. Everything done element by element is left out, as
    is usual. Counts what runs, so that a backward pass in ``run`` is in it. (PyTorch's
    ``FlopCounterMode`` counts neither the CPU's attention nor parameters without a graph.)

    Returns:
        dict: Name of the operation to FLOPs, 2 for a multiplication and an addition.
    """
    counter = _Counter()
    with counter:
        run()
    return counter.flops


def saved_bytes(run: Callable[[], Any], modules: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of ``run()``, a forward pass.

    Each storage counts once; what ``modules`` hold anyway (parameters, buffers) does not.
    """
    own = {t.untyped_storage().data_ptr() for t in (*modules.parameters(), *modules.buffers())}
    # The tensors themselves are kept, so that no address is used a second time.
    kept: List[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for pointer, size in storages.items() if pointer not in own)
