"""LSPT (arXiv 2402.17406). The number of prompts is GaPT's; ``hidden_norm`` on small ViTs is ours."""
method = dict(
    title='LSPT',
    lr=1e-3,
    prompter=dict(type='LSPT', num_tokens=100, dropout=0.1),
    camvid=dict(num_tokens=20, hidden_norm=True))
