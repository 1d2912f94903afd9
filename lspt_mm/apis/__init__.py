"""Using a tuned model: mmseg's and mmpretrain's inferencers, built and checked for our runs."""

from lspt_mm.apis.inferencer import inferencer_of
from lspt_mm.apis.predict import predict_images

__all__ = ['inferencer_of', 'predict_images']
