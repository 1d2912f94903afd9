"""Runtime defaults for classification: 100 epochs, logs by epoch, top-1."""
_base_ = './default_runtime.py'
default_scope = 'mmpretrain'
train_cfg = dict(type='lspt_mm.ResumableEpochBasedTrainLoop', max_epochs=100, val_interval=5)
val_cfg = dict()
test_cfg = dict()
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = dict(type='Accuracy', topk=(1, ))
log_processor = dict(by_epoch=True)
default_hooks = dict(
    linear_baseline=dict(type='lspt_mm.LinearBaselineHook', start=False),
    class_scores=dict(type='lspt_mm.ClassScoresHook'),
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=10),
    visualization=dict(type='VisualizationHook', enable=False))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='lspt_mm.FaultTolerantLocalVisBackend')])
