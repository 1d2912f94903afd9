"""Changes inside a block, for methods that add no tokens to it."""

from torch import Tensor


class BlockAdapter:
    """Changes the tokens of one block at named places; each change is the identity by default.

    Every change is a function of one token at a time: of a model's last block, only the tokens
    that are read arrive here. Shapes: B images, T tokens, D width.
    """

    def attention_output(self, out: Tensor, normed: Tensor) -> Tensor:
        """Change the attention's output after its projection, before LayerScale and residual.

        Args:
            out: (B, T, D).
            normed: The tokens that entered attention, after the block's first norm, (B, T, D).
        """
        return out

    def before_mlp(self, x: Tensor, block) -> Tensor:
        """Change the tokens between attention and MLP.

        Args:
            x: (B, T, D), with attention's residual.
            block (ViTBlock): The block, with its frozen parameters.
        """
        return x

    def block_output(self, x: Tensor, leading: int) -> Tensor:
        """Change the block's output.

        Args:
            x: (B, T, D).
            leading: Number of tokens before the patches (class token, registers).
        """
        return x
