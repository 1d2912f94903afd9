"""Semantic segmentation, mmseg's ``EncoderDecoder``."""

import copy
from typing import List, Optional, Sequence

import numpy as np
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from lspt_mm.errors import InputError
from lspt_mm.tasks.base import ClassShare, Description, Prediction, Task, register_task
from lspt_mm.utils.images import read_image
from lspt_mm.utils.overlay import colour, label_image, overlay, shares_of


@register_task
class Segmentation(Task):
    """A class for each pixel; 255 where the truth has none."""

    scope = 'mmseg'
    name = 'segmentation'
    head_name = 'decode_head'
    dense = True
    metric = metric_key = 'mIoU'
    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    class_metric, counted_in = 'IoU', 'pixels'
    columns = ('mask', 'overlay')
    least_patches = 4  # pyramids halve the patches' map twice

    def head(self, model):
        """The decode head; of several in a row (CascadeEncoderDecoder) the last."""
        head = super().head(model)
        return head[-1] if isinstance(head, nn.ModuleList) else head

    def class_weight(self, model):  # noqa: D102
        losses = self.head(model).loss_decode
        first = losses[0] if isinstance(losses, nn.ModuleList) else losses
        return getattr(first, 'class_weight', None)

    def linear_layer(self, model):  # noqa: D102
        return getattr(self.head(model), 'linear', None)

    def linear_model(self, model, fit):  # noqa: D102
        from mmseg.models.segmentors import EncoderDecoder

        found, vit, head = copy.copy(model), copy.copy(model.backbone), self.head(model)
        if isinstance(model.decode_head, nn.ModuleList):
            found.__class__ = EncoderDecoder  # which has one head
        found._modules = dict(model._modules)
        vit._modules = {**vit._modules, 'prompter': None, 'lora': None}
        widths = [vit.embed_dims] * len(vit.out_indices)
        found.backbone = vit
        found.neck = MODELS.build(dict(type='lspt_mm.Standardize', in_channels=widths))
        found.decode_head = MODELS.build(dict(
            type='lspt_mm.LinearSegHead', in_channels=widths, num_classes=head.num_classes,
            align_corners=head.align_corners,
        ))
        self.start_at(found, fit)
        return found.to(next(model.parameters()).device).eval()

    def show(self, cfg, folder):  # noqa: D102
        cfg.default_hooks.visualization.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder

    def use_tta(self, cfg):  # noqa: D102
        if cfg.get('tta_pipeline') is None:  # scales and flips are in it
            raise InputError('--tta: the config has no tta_model and tta_pipeline')
        super().use_tta(cfg)

    def measured_by(self, evaluator):  # noqa: D102
        return super().measured_by(evaluator) and 'mIoU' in evaluator.get('iou_metrics', ['mIoU'])

    def dump(self, cfg, out):
        """Store predictions as label images in the folder ``out``."""
        evaluators = cfg.test_evaluator
        evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
        writes = super().measured_by  # any IoUMetric does
        ours = [one for one in evaluators if writes(one)]
        if not ours:
            raise InputError('--out: expected an IoUMetric in test_evaluator, which writes masks')
        for one in ours:
            one.update(output_dir=out, keep_results=True)

    def truth(self, sample) -> Optional[np.ndarray]:  # noqa: D102
        return sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None

    def prediction(self, sample) -> Prediction:  # noqa: D102
        return Prediction(sample.pred_sem_seg.data[0].cpu().numpy())

    def pixel_classes(self, truth) -> np.ndarray:  # noqa: D102
        return truth

    def score(self, counts) -> Optional[float]:
        """Mean IoU in per cent, over the classes that occur."""
        values = [iou for iou in self.class_scores(counts) if iou == iou]
        return sum(values) / len(values) if values else None

    def class_scores(self, counts) -> List[float]:
        """Intersection over union of each class in per cent; NaN for one that does not occur."""
        hits = np.diag(counts).astype(float)
        union = counts.sum(0) + counts.sum(1) - hits
        with np.errstate(invalid='ignore'):
            return (100 * hits / union).tolist()

    def describe(self, prediction, classes, palette, top=None) -> Description:  # noqa: D102
        labels = prediction.labels
        return Description(colour(labels, palette), _shares(labels, classes, palette))

    def drawer(self, metainfo):  # noqa: D102
        from mmengine.registry import VISUALIZERS

        visualizer = VISUALIZERS.build(dict(type='SegLocalVisualizer', name='browse'))
        visualizer.dataset_meta = metainfo
        return lambda name, image, sample, **to: visualizer.add_datasample(
            name, image, sample, draw_pred=False, **to
        )

    def write(self, out, name, path, prediction, classes, palette, top):
        """``masks/NAME.png`` (:func:`label_image`) and ``overlays/NAME.jpg`` with a legend."""
        for folder in self.columns:
            (out / f'{folder}s').mkdir(exist_ok=True)
        mask = prediction.labels
        files = f'masks/{name}.png', f'overlays/{name}.jpg'
        label_image(mask, palette).save(out / files[0])
        image = read_image(path)
        overlay(image, mask, classes, palette).save(out / files[1], quality=92, subsampling=0)
        found = _shares(prediction.labels, classes, palette)
        line = ', '.join(f'{one.name} {100 * one.share:.1f}%' for one in found[:4])
        return line + (', ...' if len(found) > 4 else ''), [files]

    def logits(self, model, images):
        """(B, K, H, W), at the images' size."""
        logits = super().logits(model, images)
        align = model.align_corners
        return F.interpolate(logits, images.shape[2:], mode='bilinear', align_corners=align)


def _shares(labels: np.ndarray, classes: Sequence[str], palette: Sequence) -> List[ClassShare]:
    """Classes that occur in (H, W), the largest first."""
    return [ClassShare(n, classes[n], share, palette[n])
            for n, share in shares_of(labels, len(classes)).items()]
