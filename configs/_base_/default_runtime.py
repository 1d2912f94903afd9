"""Runtime defaults shared by every config; the task's config sets its default scope."""
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # content='prompts' leaves the frozen ViT out of the checkpoints.
    checkpoint=dict(
        type='lspt_mm.PromptCheckpointHook', content='full', by_epoch=False, interval=16000,
        max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    finite=dict(type='lspt_mm.CheckInvalidLossHook'),
    # One log per run, across interruptions. After SIGTERM or SIGINT, --resume continues exactly.
    run_log=dict(type='lspt_mm.JsonlLoggerHook', interval=50),
    stop=dict(type='lspt_mm.PreemptionHook'))
log_processor = dict(by_epoch=False)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # In seconds. The first process checks the data and fits the baseline while the others wait.
    dist_cfg=dict(backend='nccl', timeout=7200))
vis_backends = [dict(type='lspt_mm.FaultTolerantLocalVisBackend')]
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
custom_hooks = [
    dict(type='lspt_mm.BackboneWeightsHook'),
    dict(type='lspt_mm.PromptInitHook'),
    dict(type='lspt_mm.TrainableReportHook'),
]
