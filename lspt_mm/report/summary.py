"""Summary that ``segment`` and ``classify`` print, and the report that they write, at the end."""

from typing import Any, Callable, Dict

from lspt_mm.analysis.runs import find_run
from lspt_mm.apis.run import Run
from lspt_mm.engine.hooks.linear_baseline_hook import baseline_of
from lspt_mm.errors import InputError
from lspt_mm.report.collect import collect_results
from lspt_mm.report.page import write_page

#: Name of the report in the run's folder, and its number of validation images.
REPORT, _IMAGES, _PICTURES = 'report.html', 16, 6


def train_and_summarize(train: Callable[..., Run], args: Dict[str, Any]) -> None:
    """Train, print the scores of the last validation, write a report, and print the next commands.

    Args:
        train: Takes ``args`` without ``debug``.
        args: Values of the options.
    """
    given = {name: value for name, value in args.items() if name != 'debug'}
    run = train(**{**given, 'options': dict(args['options'])})
    found = run.metrics
    width = max(map(len, found['classes']))
    print(f'{found["class_metric"]} on the validation images')
    for name, score in found['classes'].items():
        print(f'  {name:{width}}  ' + ('-' if score is None else f'{score:6.2f}'))
    print(f'{found["metric"]} {found["value"]:.2f}')
    baseline = baseline_of(run.folder)
    if baseline is not None:
        print(f'logistic regression on frozen features: {baseline["value"]:.2f}')
    page = run.folder / REPORT
    try:
        result = collect_results(find_run(run.folder), 'val', _IMAGES, _PICTURES)
        write_page([result], page, 'val', f'python -m lspt_mm report {run.folder}')
        print(f'report: {page}')
    except InputError as error:  # such as a ViT without attention maps; the training is done
        print(f'no report: {error}')
    print('next:')
    print(f'  python -m lspt_mm predict {run.folder} IMAGES')
    print(f'  python -m lspt_mm export {run.folder} {run.folder / "model.onnx"}')
