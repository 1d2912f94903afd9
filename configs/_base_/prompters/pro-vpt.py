"""PRO-VPT (arXiv 2503.06901). 20 prompts in each block at the start and dropout are the paper's, the policy and the rate are ours.

The paper trains with SGD at a constant rate and clips gradients at norm 0.25 (``param_scheduler=[]``,
``optim_wrapper.clip_grad.max_norm=0.25``); here it has the schedule of the other methods.
"""
method = dict(
    title='PRO-VPT',
    prompter=dict(type='PROVPT', num_tokens=20, policy='thompson', dropout=0.1),
    lr=1e-3,
    benchmarks=dict(num_tokens=20))
