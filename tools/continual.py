"""Learn the classes of a folder of images in tasks, one after the other (class-incremental).

    python -m lspt_mm prepare imagefolder --from IMAGES --to data/mine
    python -m lspt_mm continual --task data/mine --splits 5 --method nsp2 --out runs/nsp2
    python -m lspt_mm continual --task data/mine --splits 5 --method vpt-deep --out runs/vpt

The classes, in random order, are divided into --splits tasks. The prompts continue from task to
task, and every task has a head of its own. After each task it prints the accuracy on the held-out
images of each task so far, where the prediction is the best of all classes so far. It writes them
to continual.json in --out, with the average at the end and the forgetting: the mean drop of a
task's accuracy from its best. --resume continues after the last finished task.
In Python: `lspt_mm.apis.continual.train_continual`.
"""

import argparse

from lspt_mm.config.options import add_run_arguments
from lspt_mm.recipes.methods import METHODS
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.installed import CLASSIFICATION, require


def parse_args() -> argparse.Namespace:
    """Options of the tasks."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--task', required=True, metavar='DATA', help='folder that prepare imagefolder wrote'
    )
    parser.add_argument('--splits', type=int, default=5, help='number of tasks (5)')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the order of classes and of the runs'
    )
    add_run_arguments(parser, list(METHODS), 'epochs, batch_size, img_size, lr')
    parser.set_defaults(method='nsp2')
    return parser.parse_args()


def main() -> None:
    """Train all tasks and print the table."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        require(*CLASSIFICATION)
        from lspt_mm.apis.continual import SUMMARY, train_continual

        scores = train_continual(
            args.task, args.out, args.splits, args.backbone, args.method, args.seed, args.amp,
            args.resume, dict(args.options), args.verbose,
        )
    count = len(scores.accuracies)
    print('after task ' + ''.join(f'{j:>8}' for j in range(1, count + 1)) + '    mean')
    for number, row in enumerate(scores.accuracies, 1):
        cells = ''.join(f'{value:8.2f}' for value in row) + 8 * (count - number) * ' '
        print(f'{number:>10} {cells}{sum(row) / len(row):8.2f}')
    print(f'average accuracy {scores.average_accuracy:.2f}, forgetting {scores.forgetting:.2f}')
    print(f'mean of the averages after each task {scores.average_incremental_accuracy:.2f}')
    print(f'results: {args.out / SUMMARY}')


if __name__ == '__main__':
    main()
