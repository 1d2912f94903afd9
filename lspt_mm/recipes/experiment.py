"""An experiment of a benchmark (data set, pre-training, method) with all its hyper-parameters."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from mmpretrain.models.backbones.vision_transformer import VisionTransformer

from lspt_mm.checkpoints.download import existing_file
from lspt_mm.checkpoints.load_backbone import TIMM
from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS
from lspt_mm.errors import InputError
from lspt_mm.models.vit_arguments import check_arch
from lspt_mm.recipes.arguments import check_values, taken_arguments
from lspt_mm.recipes.balance import BALANCE, class_weights
from lspt_mm.recipes.folders import images_per_class
from lspt_mm.recipes.methods import METHODS, Method, get_method
from lspt_mm.recipes.pretrainings import PRETRAININGS, Pretraining, get_pretraining
from lspt_mm.recipes.published_values import (
    BPT,
    BPT_DEEP,
    GAPT,
    SPT,
    AdamWValues,
    GaPTValues,
)
from lspt_mm.recipes.vits import ALIASES, file_vit, name_of

#: Data sets of each benchmark; any for folders of your own.
BENCHMARKS: Dict[str, Optional[tuple]] = {
    'fgvc': tuple(FGVC_TASKS),
    'vtab1k': tuple(VTAB_TASKS),
    'imagefolder': None,
}

#: Without a published value: GaPT's most common ones for FGVC, and BPT's (ours).
_GAPT_OTHERWISE = {'mae': GaPTValues(64, 100, 0.25, 5), 'mocov3': GaPTValues(64, 100, 1, 5)}
_BPT_OTHERWISE = AdamWValues(5e-2, 5e-3, 0.1)
#: Without SPT's: those of the task that it has for the kind of pre-training (ours).
_SPT_OTHERWISE = {True: SPT['dogs']['supervised'], False: SPT['cub']['mae']}
#: With a fitted head (ours, docs/results.md). Other rates are the method's.
_FITTED = dict(batch_size=32, optimizer='AdamW', head_lr=3e-3, head_weight_decay=0.0, epochs=20,
               num_tokens=10)
#: Divides the fit's logits at the start, so that training images have a loss (docs/results.md).
_SOFTEN = 5.0
#: Values of ``head``.
HEADS = ('fitted', 'paper')
#: Full fine-tuning (ours).
_FULL = dict(batch_size=64, optimizer='AdamW', lr=1e-4, weight_decay=0.05)


@dataclass
class Experiment:
    """The arguments of a ``transfer.py``, and the config that follows from them.

    Attributes:
        benchmark: 'fgvc', 'vtab1k' or 'imagefolder'.
        task: The data set; for ``imagefolder`` the folder that ``prepare.py imagefolder`` wrote.
        pretraining: One of :data:`~lspt_mm.recipes.pretrainings.PRETRAININGS`, or ``timm:NAME`` or
            a file of weights, which determine the ViT.
        method: One of :data:`~lspt_mm.recipes.methods.METHODS`.
        arch: The ViT, by mmpretrain's names; for a file of another size a dict of measures.
        model: timm's name of the ViT in a file whose tensors do not identify it.
        img_size: Side of its images in pixels, a multiple of the patch size; by default 224, or
            the multiple below it.
        patch_size: Side of a patch in pixels.
        num_tokens: P; None without prompts.
        batch_size: Images per step.
        optimizer: 'SGD' (with momentum 0.9) or 'AdamW'.
        lr: Learning rate of prompts, LoRA or biases, and of the head without ``head_lr``; not
            scaled by the batch. (Of own masks, ``lr`` is that of the head.)
        weight_decay: Of all that is trained.
        head_weight_decay: Of the head; None is the rest's.
        epochs: In all, including warm-up.
        warmup: Epochs of warm-up.
        official: Whether the data must have the official number of images.
        gate_init: GaPT's; None for other methods.
        rank: BPT's p, LoRA's rank (8); None for other methods.
        dropout: On the prompts; None is the method's.
        head: 'fitted' starts from logistic regression on standardised frozen features
            (``LinearBaselineHook``); 'paper' is mmpretrain's, randomly initialised, as in the
            published protocols, and the default of their benchmarks and pre-trainings. Published
            rates do not fit other ViTs.
        head_lr: Learning rate of the head; None is the rest's.
        balance: For classes of few images, of ``imagefolder`` alone: 'weights' in the loss,
            'sampling' that repeats their images, or 'none'. Not for multi-label data.
    """

    benchmark: str
    task: str
    pretraining: str
    method: str
    arch: Union[str, dict] = 'base'
    model: Optional[str] = None
    img_size: int = 224
    patch_size: int = 16
    num_tokens: Optional[int] = None
    batch_size: int = 64
    optimizer: str = 'SGD'
    lr: float = 0.1
    weight_decay: float = 0.0
    head_weight_decay: Optional[float] = None
    epochs: int = 100
    warmup: int = 10
    official: bool = True
    gate_init: Optional[float] = None
    rank: Optional[int] = None
    dropout: Optional[float] = None
    head: str = 'paper'
    head_lr: Optional[float] = None
    balance: str = 'none'

    @property
    def _facts(self) -> Pretraining:
        source = ALIASES.get(self.pretraining, self.pretraining)
        named = self.model or source.startswith(TIMM) or (
            existing_file(source) and 'model' in file_vit(source)
        )
        given = {} if named else dict(arch=self.arch, patch_size=self.patch_size)
        return get_pretraining(self.pretraining, model=self.model, **given)

    @property
    def name(self) -> str:
        """Such as ``vtab1k/lspt_mae_eurosat``."""
        return f'{self.benchmark}/{self.method}_{name_of(self.pretraining)}_{Path(self.task).name}'

    @property
    def embed_dims(self) -> int:
        """D of the ViT."""
        return _width(self.arch)

    @property
    def prompter(self) -> Optional[dict]:
        """The prompter's config."""
        prompter = get_method(self.method).benchmark_prompter
        if prompter is None:
            return None
        chosen = dict(gate_init=self.gate_init, rank=self.rank, dropout=self.dropout)
        return {
            **prompter, 'num_tokens': self.num_tokens,
            **{name: value for name, value in chosen.items() if value is not None},
        }

    @property
    def backbone(self) -> dict:
        """The backbone's config."""
        facts = self._facts
        out_type = facts.out_type
        if out_type == 'avg_tokens' and self.prompter is None:
            out_type = 'avg_patches'
        measures = dict(arch=self.arch, patch_size=self.patch_size)
        if 'model' in facts.backbone:  # timm's name determines the ViT
            measures = {}
        return dict(
            **{**facts.backbone, **measures}, img_size=self.img_size, out_type=out_type,
            pretrained=facts.pretrained, prompter=self.prompter,
            tune=get_method(self.method).tune_of_rank(self.rank),
        )

    @property
    def optim_wrapper(self) -> dict:
        """Optimizer with a weight decay of its own for the head, and none for its bias."""
        optimizer = dict(type=self.optimizer)
        if self.optimizer == 'SGD':
            optimizer['momentum'] = 0.9
        decay, of_head, keys = self.weight_decay, self.head_weight_decay, {}
        if self.head_lr is not None:
            keys['head'] = dict(lr_mult=self.head_lr / self.lr if self.lr else 1.0)
        if of_head not in (None, decay):  # MMEngine multiplies one common weight decay
            common = max(decay, of_head)
            keys['backbone'] = dict(decay_mult=decay / common)
            keys.setdefault('head', {})['decay_mult'] = of_head / common
            decay = common
        if decay:  # none of the bias, as in VPT's and BPT's code
            keys['head.fc.bias'] = {**keys.get('head', {}), 'decay_mult': 0.0}
        optimizer.update(lr=self.lr, weight_decay=decay)
        wrapper = dict(
            type='OptimWrapper', constructor='lspt_mm.TrainableOptimWrapperConstructor',
            optimizer=optimizer,
        )
        return {**wrapper, 'paramwise_cfg': dict(custom_keys=keys)} if keys else wrapper

    @property
    def param_scheduler(self) -> List[dict]:
        """Linear warm-up, then cosine; VPT's and GaPT's by epoch, all others by step."""
        recipe = get_method(self.method).recipe
        by_step = recipe != 'gapt' or self.head == 'fitted'
        eta_min = 1e-8 if recipe in ('bpt', 'spt') else 0.0
        common = dict(by_epoch=True, convert_to_iter_based=True) if by_step else dict(by_epoch=True)
        warmup, ramps = self.warmup, []
        if by_step and warmup <= (self.head == 'fitted'):
            warmup = 0  # maybe a single step, in which MMEngine's ramp never leaves its start
        if warmup:  # VPT's: epoch e has e / warmup of the rate, so that epoch 0 trains nothing
            start, end = (1e-3, warmup) if by_step else (1e-6, warmup + 1)
            ramps = [dict(type='LinearLR', start_factor=start, begin=0, end=end, **common)]
        decay = dict(type='CosineAnnealingLR', eta_min=eta_min, begin=warmup, end=self.epochs)
        return [*ramps, {**decay, **common}]

    def config(self, num_classes: int, multi_label: bool = False) -> Dict[str, Any]:
        """The run's config, except for the data.

        Args:
            num_classes: K.
            multi_label: Whether an image may have several classes or none: a sigmoid for each
                instead of a softmax, evaluated by the mean F1 of the classes and by mAP.
        """
        facts = self._facts
        head: Dict[str, Any] = dict(in_channels=self.embed_dims, num_classes=num_classes)
        judged: Dict[str, Any] = {}
        if multi_label and self.balance != 'none':
            raise InputError(
                f'balance={self.balance}: {self.task} is multi-label, and this is for one class an '
                'image; expected balance=none'
            )
        if multi_label:
            sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
            head.update(_delete_=True, type='MultiLabelLinearClsHead', loss=sigmoid)
            judges = [dict(type='MultiLabelMetric', thr=0.5), dict(type='AveragePrecision')]
            judged = dict(val_evaluator=judges, test_evaluator=judges)
        elif get_method(self.method).recipe in ('bpt', 'spt'):  # as their code starts it
            std = 0.01 if self.pretraining == 'mocov3' else 0.02
            head['init_cfg'] = dict(
                _delete_=True, type='TruncNormal', layer='Linear', std=std, bias=0.0
            )
        if self.balance == 'weights':
            head['loss'] = dict(class_weight=class_weights(images_per_class(self.task)))
        own: Dict[str, Any] = dict(
            train_cfg=dict(max_epochs=self.epochs), param_scheduler=self.param_scheduler,
            default_hooks=dict(linear_baseline=dict(start=self.head == 'fitted')),
        )
        model: Dict[str, Any] = dict(
            backbone=dict(_delete_=True, **self.backbone), head=head
        )
        if self.head == 'fitted':
            model['neck'] = dict(type='lspt_mm.Standardize', in_channels=[self.embed_dims])
            if self.method == 'linear':
                own['train_cfg'] = dict(_delete_=True, type='lspt_mm.LinearProbeLoop', max_epochs=1)
                own['param_scheduler'] = []  # nothing is trained
            elif get_method(self.method).recipe != 'full':  # whose head has the ViT's low rate
                own['default_hooks']['linear_baseline']['soften'] = _SOFTEN
        return dict(
            experiment=self.to_dict(),
            work_dir=f'work_dirs/{self.name}',
            model=model,
            data_preprocessor=dict(mean=list(facts.mean), std=list(facts.std)),
            pretrained_help=f'{facts.pretrained} is {facts.source}.',
            optim_wrapper=self.optim_wrapper,
            **judged,
            **own,
        )

    def loaders(self, dataset: dict, pipelines: tuple, **by_split) -> Dict[str, Any]:
        """The run's data loaders.

        Args:
            dataset: Arguments that the data sets have in common.
            pipelines: Transforms of training, and of validation and test.
            **by_split: An argument of the data set, and its values for training, validation, test.
        """
        train, test = pipelines
        config: Dict[str, Any] = dict(train_pipeline=train, test_pipeline=test)
        for i, (split, pipeline) in enumerate((('train', train), ('val', test), ('test', test))):
            own = {name: values[i] for name, values in by_split.items()}
            data = dict(**dataset, **own, pipeline=pipeline)
            if split == 'train' and self.balance == 'sampling':  # classes rarer than the average
                data = dict(type='ClassBalancedDataset', dataset=data,
                            oversample_thr=1 / dataset['num_classes'])
            config[f'{split}_dataloader'] = dict(batch_size=self.batch_size, dataset=data)
        return config

    def to_dict(self) -> Dict[str, Any]:
        """Values and name as plain data, for the dumped config and for tables."""
        return {**asdict(self), 'name': self.name}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'Experiment':
        """The inverse of :meth:`to_dict`."""
        return cls(**{name: value for name, value in values.items() if name != 'name'})


def resolve_experiment(benchmark: str, /, **defaults) -> Experiment:
    """The experiment of the config being read, with all hyper-parameters resolved.

    The config's arguments override ``defaults``. Other values come from the published tables, or
    from this module's constants (ours).

    Raises:
        InputError: For an unknown argument, data set, pre-training, method or value.
    """
    values = taken_arguments(benchmark, Experiment, defaults, fixed=('benchmark',))
    for name in ('task', 'pretraining', 'method'):
        values[name] = str(values[name])  # a folder may be called 2024
    weights = [values.get(name) for name in ('pretraining', 'arch', 'patch_size', 'model')]
    measures: Dict[str, Any] = {}

    def read_measures() -> None:
        measures.update(get_pretraining(*weights).measures)

    try:
        _check(values, BENCHMARKS[benchmark], read_measures)
        values.update(measures)
        published = benchmark != 'imagefolder' and values['pretraining'] in PRETRAININGS
        values.setdefault('head', 'paper' if published else 'fitted')
        method = get_method(values['method'])
        if values['head'] == 'fitted' and method.recipe != 'full':
            values = {**_FITTED, 'lr': method.lr, **values}
        _check_together(values, BENCHMARKS[benchmark])
        patch = values.get('patch_size', Experiment.patch_size)
        values.setdefault('img_size', max(1, Experiment.img_size // patch) * patch)
    except ValueError as error:
        raise InputError(str(error)) from error
    values = {**_published(benchmark, values), **values}
    if get_method(values['method']).prompter is None:
        values.pop('num_tokens', None)  # the same command line serves methods without prompts
    values.setdefault('warmup', values.get('epochs', 100) // 10)
    return Experiment(benchmark=benchmark, **values)


def _width(arch: Union[str, dict]) -> int:
    sizes = arch if isinstance(arch, dict) else VisionTransformer.arch_zoo[arch.lower()]
    return sizes['embed_dims']


def _check(values: Dict[str, Any], tasks: Optional[tuple], *further: Callable) -> None:
    """Raise ValueError for invalid values, each by itself."""
    arch = [(check_arch, values['arch'], VisionTransformer.arch_zoo)] if 'arch' in values else []
    check_values(
        values,
        dict(
            method=METHODS, optimizer=('SGD', 'AdamW'), official=(True, False), head=HEADS,
            balance=BALANCE[:3], **({} if tasks is None else {'task': tasks}),
        ),
        dict(img_size=1, patch_size=1, num_tokens=1, batch_size=1, epochs=1, warmup=0, rank=1),
        ('lr', 'head_lr', 'weight_decay', 'head_weight_decay', 'dropout'),
        [*arch, *((check,) for check in further)],
    )


def _check_together(values: Dict[str, Any], tasks: Optional[tuple]) -> None:
    """Raise ValueError for values that do not fit each other."""
    problems = []
    size = values.get('img_size')
    patch = values.get('patch_size', Experiment.patch_size)
    if size is not None and size % patch:
        problems.append(f'img_size={size}: expected a multiple of patch_size={patch}')
    epochs = values.get('epochs', Experiment.epochs)
    if values.get('warmup', 0) >= epochs:
        problems.append(f'warmup={values["warmup"]}: expected less than epochs={epochs}')
    if tasks is not None and values.get('balance', 'none') != 'none':
        problems.append(f'balance={values["balance"]}: for folders of your own only')
    method = get_method(values['method'])
    absent = {'gate_init', 'rank'} - set(method.extra_args)
    if method.prompter is None:
        absent.add('dropout')
    for name in sorted(absent & values.keys()):
        problems.append(f'{name}={values[name]!r}: method={values["method"]} has none')
    if problems:
        raise ValueError('\n'.join(problems))


def _published(benchmark: str, values: Dict[str, Any]) -> Dict[str, Any]:
    """Hyper-parameters of the experiment: the published ones, or else ours."""
    method = get_method(values['method'])
    task, pretraining = values['task'], values['pretraining']
    if method.recipe == 'full':
        return dict(_FULL)
    if method.recipe == 'adamw':  # SGD at the rates of prompts diverges
        own = method.benchmark_prompter
        tokens = {} if own is None else {'num_tokens': own['num_tokens']}
        return dict(_FULL, lr=method.lr, weight_decay=0.0, **tokens)
    if method.recipe in ('bpt', 'spt'):
        own = method.benchmark_prompter['num_tokens']
        found = _values_of(method, task, pretraining)._asdict()
        rank = found.pop('rank')
        common = dict(batch_size=32, optimizer='AdamW', num_tokens=own)
        if 'rank' in method.extra_args:
            tokens = values.get('num_tokens', own)
            width = _width(values.get('arch', 'base'))
            published = rank is not None and tokens == own
            common['rank'] = rank if published else method.default_rank(tokens, width)
        return {**common, **found}
    known = 'mae' if pretraining == 'mae' else 'mocov3'  # no published table for supervised ViTs
    row = GAPT.get(task, {}).get(known) or _GAPT_OTHERWISE[known]
    found = row._asdict()
    if 'gate_init' not in method.extra_args:
        del found['gate_init']
    if 'num_tokens' in method.benchmarks:
        found['num_tokens'] = method.benchmarks['num_tokens']
    return found


def _values_of(method: Method, task: str, pretraining: str) -> AdamWValues:
    """BPT's or SPT's values for the task, published or ours."""
    if method.recipe == 'spt':
        found = SPT.get(task, {}).get(pretraining)
        return found or _SPT_OTHERWISE[pretraining == 'supervised']
    shallow = BPT.get(task, {}).get(pretraining, _BPT_OTHERWISE)
    if not method.prompter.get('deep', False):
        return shallow
    return BPT_DEEP.get((task, pretraining)) or shallow._replace(rank=None)
