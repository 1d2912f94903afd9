"""Runtime defaults for segmentation."""
_base_ = './default_runtime.py'
default_scope = 'mmseg'
default_hooks = dict(
    linear_baseline=dict(type='lspt_mm.LinearBaselineHook', start=False),
    class_scores=dict(type='lspt_mm.ClassScoresHook'),
    visualization=dict(type='SegVisualizationHook'))
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='lspt_mm.FaultTolerantLocalVisBackend')])
tta_model = dict(type='lspt_mm.SegTTAModel')
