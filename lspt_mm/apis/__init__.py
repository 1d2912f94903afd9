"""Python API: train, load and test tuned models, and predict with them."""

from lspt_mm.apis.image_features import ImageFeatures, features
from lspt_mm.apis.model import init_model
from lspt_mm.apis.multi_task import MultiTask
from lspt_mm.apis.predict import predict_image, predict_images
from lspt_mm.apis.run import ImageResult, Results, Run, load

__all__ = [
    'ImageFeatures', 'ImageResult', 'MultiTask', 'Results', 'Run', 'features', 'init_model', 'load',
    'predict_image', 'predict_images',
]
