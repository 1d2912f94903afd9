"""160k iterations. LSPT's paper names no optimizer for dense tasks: AdamW and its settings are ours.

Prompts and cell have ten times the head's learning rate and no weight decay, as they start near
zero and have few parameters.
"""
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        custom_keys=dict(prompter=dict(lr_mult=10., decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
train_cfg = dict(type='lspt_mm.ResumableIterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
