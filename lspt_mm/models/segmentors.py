"""mmseg's segmentor with a prediction whose memory does not grow with classes times pixels.

mmseg keeps the logits of all classes for the whole image, several times over. Here they are made a
strip of rows at a time, from the head's small maps, and only the class map of the image is kept.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.structures import PixelData
from mmseg.models import segmentors
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList, stack_batch
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.models.ops.upsampling import chunk_size, resized_rows, source_rows
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.registry import MODELS
from lspt_mm.utils.checks import check_choice, check_int

#: Logits of a strip of a class map on CPUs (32 MiB); on GPUs as of the ops.
STRIP_CPU = 1 << 23
#: Windows that run at once, where ``test_cfg`` has no ``window_batch``.
WINDOW_BATCH = 4


class Window(NamedTuple):
    """A window's first row and column and the ones after its last, and its head's logits."""

    top: int
    left: int
    bottom: int
    right: int
    logits: Tensor  # (1, K, h, w)


def starts(length: int, crop: int, stride: int) -> List[int]:
    """First pixels of the windows along a side, as mmseg places them."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


class LogitRows:
    """Logits of one image, in the size and orientation of its file, by rows.

    Rows should be asked for in order, upwards or downwards: windows that the last request did not
    need are forgotten.

    Args:
        model: An :class:`EncoderDecoder` in eval mode.
        image: After the data preprocessor, (3, H, W).
        meta: Of its data sample; without it the size is the tensor's.
    """

    def __init__(self, model: 'EncoderDecoder', image: Tensor, meta: Optional[dict] = None):
        meta = meta or {}
        self.model, self.image = model, image
        self.align = model.align_corners
        height, width = image.shape[1:]
        padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
        self.left, right, self.top, bottom = padding
        self.inner = height - self.top - bottom, width - self.left - right
        self.size = tuple(meta.get('ori_shape', self.inner))[:2]
        self.flip = meta.get('flip_direction') if meta.get('flip') else None
        crop = (height, width)
        stride = crop
        if model.test_cfg.get('mode', 'whole') == 'slide':
            crop = tuple(min(*pair) for pair in zip(model.test_cfg['crop_size'], crop, strict=True))
            stride = model.test_cfg['stride']
        self.crop = crop
        self.covered = model.whole_patches(crop)  # by the logits of a window
        self.tops, self.lefts = (
            starts(*sizes) for sizes in zip((height, width), crop, stride, strict=True)
        )
        self.kept: Dict[int, List[Window]] = {}

    @torch.no_grad()
    def rows(self, first: int, end: int) -> Tensor:
        """Logits (K, end - first, width) of rows of the image, float32."""
        needed = source_rows(self.inner[0], self.size[0], (first, end), self.align)
        inner = self._inner_rows(*needed)
        return resized_rows(
            inner[None], needed[0], self.inner[0], self.size, (first, end), self.align
        )[0]

    def _inner_rows(self, first: int, end: int) -> Tensor:
        """Rows of the image as the model got it, without padding, flipped back."""
        if self.flip == 'vertical':
            height = self.inner[0]
            rows = self._canvas_rows(self.top + height - end, self.top + height - first).flip(1)
        else:
            rows = self._canvas_rows(self.top + first, self.top + end)
        rows = rows[:, :, self.left : self.left + self.inner[1]]
        return rows.flip(2) if self.flip == 'horizontal' else rows

    def _canvas_rows(self, first: int, end: int) -> Tensor:
        """Rows of the image as the model got it: the mean over the windows at each pixel."""
        width = self.image.size(2)
        tops = [top for top in self.tops if top < end and top + self.crop[0] > first]
        self.kept = {top: self.kept.get(top) or self._windows(top) for top in tops}
        total, count = None, self.image.new_zeros((end - first, width), dtype=torch.float32)
        for window in (window for top in tops for window in self.kept[top]):
            begin, stop = max(first, window.top), min(end, window.bottom)
            part = resized_rows(
                window.logits, 0, window.logits.size(2), self.covered,
                (begin - window.top, stop - window.top), self.align,
            )[0, :, :, : self.crop[1]]
            if len(tops) == len(self.lefts) == 1:
                return part
            if total is None:
                total = part.new_zeros((len(part), end - first, width))
            place = slice(begin - first, stop - first), slice(window.left, window.right)
            total[(slice(None), *place)] += part
            count[place] += 1
        return total.div_(count)

    def _windows(self, top: int) -> List[Window]:
        """Run the windows of one row."""
        bottom, batch = top + self.crop[0], self.model.window_batch
        windows = []
        for i in range(0, len(self.lefts), batch):
            lefts = self.lefts[i : i + batch]
            crops = [self.image[:, top:bottom, left : left + self.crop[1]] for left in lefts]
            logits = self.model.small_logits(torch.stack(crops))
            windows += [
                Window(top, left, bottom, left + self.crop[1], one[None])
                for left, one in zip(lefts, logits, strict=True)
            ]
        return windows


@torch.no_grad()
def class_map(sources: Sequence[LogitRows], threshold: float = 0.3) -> Tensor:
    """Classes (1, H, W) of an image; uint8 for up to 255 classes, else int64.

    Args:
        sources: Of the image, one for each of its augmented versions. Of several, the mean of the
            probabilities counts.
        threshold: Of the probability of class 1, for models with a single channel.
    """
    height, width = sources[0].size
    classes = sources[0].model.out_channels
    device = sources[0].image.device
    logits = STRIP_CPU if device.type == 'cpu' else chunk_size(device)
    strip = max(1, logits // (classes * width))
    dtype = torch.uint8 if classes < 256 else torch.int64
    found = torch.empty((1, height, width), dtype=dtype, device=device)
    for first in range(0, height, strip):
        end = min(first + strip, height)
        rows = sources[0].rows(first, end)
        if len(sources) > 1:
            rows = probabilities(rows)
            for source in sources[1:]:
                rows += probabilities(source.rows(first, end))
            rows /= len(sources)
        elif classes == 1:
            rows = rows.sigmoid()
        # argmax() gives the same, but takes more than twice as long on a CPU.
        found[0, first:end] = rows.max(dim=0).indices if classes > 1 else rows[0] > threshold
    return found


def probabilities(rows: Tensor) -> Tensor:
    """Softmax over classes, or the sigmoid of a single channel."""
    return rows.softmax(0) if len(rows) > 1 else rows.sigmoid()


@MODELS.register_module()
class EncoderDecoder(segmentors.EncoderDecoder):
    """mmseg's ``EncoderDecoder``, predicting by strips of rows (docs/performance.md).

    Class maps equal mmseg's up to the rounding of logits, where images and windows are whole
    patches. Others are padded on the right and at the bottom, as the ViT does, and mmseg shrinks
    the padded map to the image, which displaces classes by up to a patch; here the padding is cut
    off, and training pads its labels alike. Predictions have no ``seg_logits``: :class:`LogitRows`
    gives those of any rows, and ``type='EncoderDecoder'`` is mmseg's own.

    Args:
        **kwargs: mmseg's. ``test_cfg`` may have ``window_batch``, the number of sliding windows
            that run at once (4).

    Raises:
        ValueError: For a ``window_batch`` below 1, a ``mode`` that is neither 'whole' nor 'slide',
            or a ``stride`` that leaves pixels between windows out.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        test_cfg = self.test_cfg or {}
        self.window_batch = test_cfg.get('window_batch', WINDOW_BATCH)
        check_int('test_cfg.window_batch', self.window_batch, 1)
        mode = test_cfg.get('mode', 'whole')
        check_choice('test_cfg.mode', mode, ('whole', 'slide'))
        if mode == 'slide':
            crop, stride = test_cfg['crop_size'], test_cfg['stride']
            if any(step > side for step, side in zip(stride, crop, strict=True)):
                raise ValueError(
                    f'test_cfg.stride={tuple(stride)} is larger than crop_size={tuple(crop)}: '
                    'pixels between the windows would have no class; expected at most the crop'
                )
        kind = type(self.decode_head)
        self._resizes_only = all(
            getattr(kind, name) is getattr(BaseDecodeHead, name)
            for name in ('predict', 'predict_by_feat')
        )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> Tuple[int, int]:
        """For mmpretrain's layer-wise learning rates: that of the backbone; heads are last."""
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')

    def whole_patches(self, size: Sequence[int]) -> Tuple[int, int]:
        """Height and width that the ViT pads images of ``size`` to."""
        patch = self.backbone.patch_size if isinstance(self.backbone, PromptedBackbone) else (1, 1)
        return tuple(-(-side // step) * step for side, step in zip(size, patch, strict=True))

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict:
        """mmseg's losses; labels of incomplete patches are padded with ignored pixels."""
        size = self.whole_patches(inputs.shape[2:])
        if size != tuple(inputs.shape[2:]):
            inputs, data_samples = stack_batch(
                list(inputs), data_samples, size, seg_pad_val=self.decode_head.ignore_index
            )
        return super().loss(inputs, data_samples)

    def small_logits(self, images: Tensor) -> Tensor:
        """Logits (B, K, h, w) of images (B, 3, H, W), in the head's own size.

        They cover the images as padded to :meth:`whole_patches`.
        """
        height, width = self.whole_patches(images.shape[2:])
        if (height, width) != images.shape[2:]:  # F.pad copies
            images = F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))
        if self._resizes_only:
            return self.decode_head(self.extract_feat(images))
        return self.encode_decode(images, [dict(img_shape=images.shape[2:])] * len(images))

    def sources(
        self, inputs: Tensor, data_samples: Optional[SampleList] = None
    ) -> List[LogitRows]:
        """The logits of each image of a batch; those of a single window are made at once."""
        metas = [sample.metainfo for sample in data_samples or ()] or [None] * len(inputs)
        sources = [LogitRows(self, *pair) for pair in zip(inputs, metas, strict=True)]
        if len(sources) > 1 and len(sources[0].tops) == len(sources[0].lefts) == 1:
            for source, logits in zip(sources, self.small_logits(inputs), strict=True):
                source.kept = {0: [Window(0, 0, *source.crop, logits[None])]}
        return sources

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Optional[SampleList] = None
    ) -> SampleList:
        """Samples with ``pred_sem_seg``, class maps in the size of the images' files."""
        return self.with_maps(
            [[source] for source in self.sources(inputs, data_samples)],
            data_samples or [SegDataSample() for _ in inputs],
        )

    def with_maps(
        self, sources: Sequence[Sequence[LogitRows]], data_samples: SampleList
    ) -> SampleList:
        """The samples with the class maps of their sources."""
        threshold = getattr(self.decode_head, 'threshold', None)
        for sample, of_image in zip(data_samples, sources, strict=True):
            sample.set_data(
                {'pred_sem_seg': PixelData(data=class_map(of_image, threshold))}
            )
        return data_samples


@MODELS.register_module()
class SegTTAModel(segmentors.SegTTAModel):
    """mmseg's test-time augmentation, by strips of rows around our :class:`EncoderDecoder`.

    With a single channel mmseg's takes the sigmoid of a sigmoid, which is above its threshold
    everywhere; here the mean of the probabilities counts.
    """

    @torch.no_grad()
    def test_step(self, data: dict) -> SampleList:
        """Average the probabilities of an image's augmented versions; one map for each image."""
        if not isinstance(self.module, EncoderDecoder):
            return super().test_step(data)
        versions, samples = [], []
        for i in range(len(data['inputs'])):
            one = {key: values[i] for key, values in data.items()}
            one = self.module.data_preprocessor(one, False)
            versions.append(self.module.sources(one['inputs'], one['data_samples']))
            samples = samples or one['data_samples']
        images: List[Tuple[LogitRows, ...]] = list(zip(*versions, strict=True))
        return self.module.with_maps(images, samples)
