"""The methods of the classification benchmarks: what they put into the ViT, what they train."""

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from lspt_mm.utils.checks import check_choice


class Method(NamedTuple):
    """``prompter`` without its number of prompts, the backbone's ``tune``, and whose recipe."""

    prompter: Optional[Mapping]
    tune: str = 'prompts'
    #: 'gapt' (SGD, GaPT's values per task), 'bpt' (AdamW, BPT's) or 'full' (AdamW, ours).
    recipe: str = 'gapt'
    #: Number of prompts per block where the recipe's table does not say.
    num_tokens: Optional[int] = None
    #: Arguments of a cell that only some methods have.
    takes: Tuple[str, ...] = ()
    title: str = ''

    def rank_of(self, num_tokens: int, width: int) -> int:
        """BPT's p for so many prompts: 75 of 100 (shallow), 50 of 50 (deep), as in its paper."""
        deep = self.prompter.get('deep', False)
        return min(num_tokens if deep else max(1, 3 * num_tokens // 4), width)


#: Name of the method in the names of cells to the method.
METHODS: Dict[str, Method] = {
    'linear': Method(None, title='Linear probe'),
    'bias': Method(None, tune='bias', title='Biases'),
    'partial-1': Method(None, tune='partial-1', title='Last block'),
    'full': Method(None, tune='full', recipe='full', title='Full fine-tuning'),
    'vpt': Method(dict(type='VPT'), title='VPT-shallow'),
    # Ten in each of twelve blocks is what GaPT's paper compares with.
    'vpt-deep': Method(
        dict(type='VPT', deep=True, dropout=0.1), num_tokens=10, title='VPT-deep'
    ),
    'gated': Method(
        dict(type='GatedPrompt', dropout=0.1), takes=('gate_init',), title='GaPT'
    ),
    'bilinear': Method(
        dict(type='BilinearPrompt', start='whiten'), recipe='bpt', num_tokens=100,
        takes=('rank',), title='BPT-shallow',
    ),
    'bilinear-deep': Method(
        dict(type='BilinearPrompt', deep=True, start='whiten'), recipe='bpt', num_tokens=50,
        takes=('rank',), title='BPT-deep',
    ),
    'spt': Method(dict(type='SelfPrompt'), title='SPT'),
    'vfpt': Method(dict(type='FourierPrompt', dropout=0.1), num_tokens=10, title='VFPT'),
    'lspt': Method(dict(type='LSPT', dropout=0.1), title='LSPT'),
    'lspt-low-rank': Method(
        dict(type='LSPT', cell='low-rank', rank=16, dropout=0.1), takes=('rank',),
        title='LSPT, low-rank cell',
    ),
    'lspt-diagonal': Method(
        dict(type='LSPT', cell='diagonal', dropout=0.1), title='LSPT, diagonal cell'
    ),
    'lspt-no-gspc': Method(dict(type='LSPT', gspc=False, dropout=0.1), title='LSPT without GSPC'),
    'lspt-no-lpc': Method(dict(type='LSPT', lpc=False, dropout=0.1), title='LSPT without LPC'),
}  # fmt: skip


def get_method(name: str) -> Method:
    """The method, or ValueError naming those there are."""
    check_choice('method', name, METHODS)
    return METHODS[name]
