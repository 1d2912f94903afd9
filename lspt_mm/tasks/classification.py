"""Classification of images, mmpretrain's ``ImageClassifier``; with one label each or several."""

from typing import List, Optional

import numpy as np
from torch import nn

from lspt_mm.tasks.base import ClassShare, Description, Prediction, Task, register_task

#: Shorter side of a picture in pixels: smaller images are enlarged, so that a label is legible.
_LEAST_SIDE = 256


@register_task
class Classification(Task):
    """One class for an image."""

    scope = 'mmpretrain'
    name = 'classification'
    metric, metric_key = 'top-1', 'accuracy/top1'
    evaluator = dict(type='Accuracy', topk=(1,))
    class_metric = 'Share found'
    columns = ('rank', 'class', 'probability')

    def of(self, cfg):
        """:class:`MultiLabelClassification` for mmpretrain's multi-label heads, else this task."""
        head = (cfg.get('model') or {}).get('head') or {}
        several = str(head.get('type')).split('.')[-1].startswith('MultiLabel')
        return _MULTI_LABEL if several else self

    def class_weight(self, model):  # noqa: D102
        return getattr(self.head(model).loss_module, 'class_weight', None)

    def linear_layer(self, model):  # noqa: D102
        layer = getattr(self.head(model), 'fc', None)
        return layer if isinstance(layer, nn.Linear) else None  # of several layers, a block

    def show(self, cfg, folder):  # noqa: D102
        cfg.default_hooks.visualization.update(enable=True, out_dir=folder, interval=1)

    def truth(self, sample) -> Optional[np.ndarray]:  # noqa: D102
        return sample.gt_label.cpu().numpy() if 'gt_label' in sample else None

    def prediction(self, sample) -> Prediction:  # noqa: D102
        return Prediction(sample.pred_label.cpu().numpy(), sample.pred_score.float().cpu().numpy())

    def measured_by(self, evaluator):  # noqa: D102
        topk = evaluator.get('topk', 1)
        return super().measured_by(evaluator) and (
            1 in (topk if isinstance(topk, (list, tuple)) else [topk])
        )

    def score(self, counts) -> Optional[float]:  # noqa: D102
        return float(100 * counts.trace() / counts.sum()) if counts.sum() else None

    def class_scores(self, counts) -> List[float]:
        """Share of each true class that was found, in per cent; NaN for an absent one."""
        with np.errstate(invalid='ignore'):
            return (100 * np.diag(counts) / counts.sum(1)).tolist()

    def describe(self, prediction, classes, palette, top=None) -> Description:  # noqa: D102
        labels, scores = prediction.labels.reshape(-1), prediction.scores
        if scores is None:  # a truth
            return Description(None, [ClassShare(int(n), classes[n]) for n in labels])
        best = np.argsort(-scores, kind='stable')
        best = best[:top] if top else best[np.isin(best, labels)]
        return Description(
            None, [ClassShare(int(n), classes[n], float(scores[n])) for n in best]
        )

    def drawer(self, metainfo):  # noqa: D102
        from mmengine.registry import VISUALIZERS
        from PIL import Image

        visualizer = VISUALIZERS.build(dict(type='UniversalVisualizer', name='browse'))

        def draw(name, image, sample, show, wait_time, out_file):
            if sample is None or 'gt_label' not in sample:
                Image.fromarray(image).save(out_file)
                if show:
                    visualizer.show(image, win_name=name, wait_time=wait_time)
                return
            visualizer.visualize_cls(
                image, sample, metainfo.get('classes'), draw_pred=False, name=name, show=show,
                rescale_factor=max(1, _LEAST_SIDE / min(image.shape[:2])), wait_time=wait_time,
                out_file=out_file,
            )

        return draw

    def write(self, out, name, path, prediction, classes, palette, top):  # noqa: D102
        best = self.describe(prediction, classes, palette, top).classes
        rows = [(rank, one.name, f'{one.share:.6f}') for rank, one in enumerate(best, 1)]
        line = ', '.join(f'{one.name} {one.share:.3f}' for one in best)
        return line or 'no class', rows or [('', '', '')]


class MultiLabelClassification(Classification):
    """Any number of classes for an image: those with a probability of at least a half."""

    name = 'multi-label classification'
    exclusive = False
    metric, metric_key = 'macro F1', 'multi-label/f1-score'
    evaluator = dict(type='MultiLabelMetric', thr=0.5)
    class_metric = 'F1'

    def of(self, cfg):  # noqa: D102
        return self

    def measured_by(self, evaluator):  # noqa: D102
        return (
            Task.measured_by(self, evaluator)
            and evaluator.get('average', 'macro') == 'macro'
            and evaluator.get('thr', None if evaluator.get('topk') else 0.5) == 0.5
            and 'f1-score' in evaluator.get('items', ('f1-score',))
        )

    def counts(self, truth, predicted, num_classes) -> np.ndarray:
        """(K, 2, 2), for each class whether it is true (rows) and predicted (columns)."""
        of_class = np.arange(num_classes)
        counts = np.zeros((num_classes, 2, 2), int)
        counts[of_class, np.isin(of_class, truth).astype(int),
               np.isin(of_class, predicted).astype(int)] = 1
        return counts

    def occurrences(self, counts):  # noqa: D102
        return counts[:, 1].sum(1), counts[:, :, 1].sum(1)

    def score(self, counts) -> Optional[float]:
        """The mean of the classes' F1 in per cent; a class that does not occur counts as 0."""
        return float(np.nan_to_num(self.class_scores(counts)).mean()) if counts.any() else None

    def class_scores(self, counts) -> List[float]:
        """F1 of each class in per cent; NaN for one that is neither present nor predicted."""
        true, predicted = self.occurrences(counts)
        with np.errstate(invalid='ignore'):
            return (100 * 2 * counts[:, 1, 1] / (true + predicted)).tolist()


_MULTI_LABEL = MultiLabelClassification()
