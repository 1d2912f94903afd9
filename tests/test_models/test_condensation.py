"""Prompt Condensation: which prompts are kept, when, and that the others are gone."""

import pytest
import torch
from test_prompt_pool import small, step, weights_of

from lspt_mm.models import CondensedPrompt
from lspt_mm.models.prompters.base import Training


def condensed(**kwargs):
    return small(CondensedPrompt, **kwargs)


def passed(prompter, epoch, num_epochs=10):
    forgotten = []
    training = Training(epoch, num_epochs, 1.0, lambda *args: forgotten.append(args))
    return prompter.after_epoch(training), forgotten


@pytest.mark.parametrize(
    ('at', 'num_epochs', 'want'),
    [(0.5, 10, 5), (0.5, 5, 3), (0.0, 10, 1), (0.99, 10, 9), (0.2, 2, 1), (0.9, 2, 1), (0.5, 1, 1)],
)
def test_the_pass(at, num_epochs, want):
    prompter = condensed(at=at)
    found = []
    for epoch in range(1, num_epochs + 1):
        prompter.scores.copy_(torch.arange(6))
        if passed(prompter, epoch, num_epochs)[0]:
            found.append(epoch)
    assert found == [want]


@pytest.mark.parametrize(('keep', 'count'), [(0.01, 1), (0.3, 2), (0.5, 3), (0.6, 4), (1, 6)])
def test_the_prompts_with_the_largest_scores_of_the_last_pass_are_kept(keep, count):
    prompter = condensed(keep=keep)
    step(prompter, 1e3 * weights_of(0))
    passed(prompter, 4)  # an earlier pass
    for seed in (1, 2):
        step(prompter, weights_of(seed))
    start = prompter.prompts.detach().clone()
    scores = sum((start * weights_of(s)).sum(1) ** 2 for s in (1, 2)) / 2
    kept = sorted(range(6), key=scores.tolist().__getitem__)[-count:]
    line, forgotten = passed(prompter, 5)
    assert [i for i in range(6) if prompter.block[i]] == sorted(kept)
    own = [1, 1, 2, 2, 3, 3]
    assert all(int(prompter.block[i]) == own[i] for i in kept)
    counts = ', '.join(str(sum(own[i] == l for i in kept)) for l in (1, 2, 3))
    assert line == f'kept {count} of 6 prompts; by block {counts}'
    assert torch.equal(prompter.prompts[kept], start[kept])
    assert not prompter.prompts[prompter.block == 0].any()
    ((parameter,),) = forgotten
    assert parameter is prompter.prompts


@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD'])
def test_removed_prompts_stay_as_they_are(optimizer):
    prompter = condensed(keep=0.5)
    kind = getattr(torch.optim, optimizer)
    run = kind([prompter.prompts], lr=0.1, weight_decay=0.5, **(
        {'momentum': 0.9} if optimizer == 'SGD' else {}
    ))
    for seed in range(8):
        run.zero_grad()
        step(prompter, weights_of(seed))
        run.step()
        if seed == 3:
            forget = lambda one: run.state.pop(one, None)  # noqa: E731
            prompter.after_epoch(Training(5, 10, 1.0, forget))
            gone = prompter.block == 0
            kept = prompter.prompts[~gone].clone()
    assert gone.sum() == 3
    assert prompter.prompts[gone].eq(0).all()
    assert prompter.prompts[~gone].ne(kept).any(1).all()


def test_without_scores_nothing_is_removed():
    prompter = condensed()
    line, forgotten = passed(prompter, 5)
    assert line == 'no prompt removed: no score differs from 0' and not forgotten
    assert prompter.layout() == (2, 2, 2)


def test_once_more_with_fewer():
    prompter = condensed(keep=0.5)
    step(prompter, weights_of(0))
    passed(prompter, 5)
    alive = prompter.block > 0
    prompter.keep = 0.2
    step(prompter, weights_of(1))
    assert prompter.scores[~alive].eq(0).all()
    passed(prompter, 5)
    assert sum(prompter.layout()) == 1 and alive[prompter.block > 0].all()
