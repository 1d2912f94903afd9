"""Precomputes, for inference, whatever is the same for every image."""

from torch import no_grad

from lspt_mm.errors import InputError
from lspt_mm.models.prompted_block import keys_and_values
from lspt_mm.models.prompters.base import Prompter


@no_grad()
def fuse(vit, prompter: Prompter) -> None:
    """Store on ``prompter`` the part of its computation in ``vit`` that is the same for all images.

    These are keys and values of input-independent prompts, and what the method precomputes
    (LSPT's input gates).

    Raises:
        InputError: In train mode.
    """
    if vit.training or prompter.training:
        raise InputError('fuse() is for inference: call eval() first')
    prompter.unfuse()
    prompter.fuse()
    if not prompter.input_independent(prompter.start_block):
        return
    # Only their shape and type matter.
    patches = next(vit.parameters()).new_zeros(1, 1, vit.embed_dims)
    prompts, state = prompter.first(patches, (1, 1))
    for number in range(prompter.start_block, vit.num_layers + 1):
        block = vit.block(number) if prompts is not None else None
        if block is not None and not vit.reads_prompts(number, prompter):
            found = keys_and_values(block, prompts.to(patches.dtype))
            prompter.fused_keys_values[number] = found
        if (
            number == vit.num_layers
            or prompter.reads_output(number)
            or not prompter.input_independent(number + 1)
        ):
            return
        # The block's output is not read, so neither it nor the image is needed.
        prompts, state = prompter.next(number, prompts, None, patches, state)
