"""tools/train.py and tools/test.py on a miniature of ADE20K: what a user gets out of them."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from miniatures import CONFIGS, ok, once, run_command, run_tool, tiny_vit, write_segmentation
from PIL import Image

BLOCK = {
    'norm1': 'ln1',
    'attn.qkv': 'attn.qkv',
    'attn.proj': 'attn.proj',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}


def timm_to_checkpoint(depth=4):
    """timm's name of each tensor of the ViT to its name in a checkpoint of a segmentor.

    The config takes the last block's output without the final norm: the model does not have it.
    """
    names = {'cls_token': 'cls_token', 'pos_embed': 'pos_embed'}
    modules = {'patch_embed.proj': 'patch_embed.projection'}
    for i in range(depth):
        modules.update({f'blocks.{i}.{k}': f'layers.{i}.{v}' for k, v in BLOCK.items()})
    for kind in ('weight', 'bias'):
        names.update({f'{k}.{kind}': f'{v}.{kind}' for k, v in modules.items()})
    return {k: f'backbone.{v}' for k, v in names.items()}




def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    folder = once(tmp_path_factory, 'seg', write_segmentation)
    return folder


@pytest.fixture(scope='module')
def trained(mini, tmp_path_factory):
    """Four iterations, a checkpoint after two and after four, validated at the end."""

    def train(folder):
        config = mini / 'mini_seg.py'
        run = ok(run_tool('train.py', config, '--work-dir', folder / 'work', cwd=folder))
        (folder / 'out.txt').write_text(run.out)
        (folder / 'err.txt').write_text(run.err)

    return once(tmp_path_factory, 'seg_trained', train)


@pytest.fixture(scope='module')
def tested(mini, trained, tmp_path_factory):
    def test(folder):
        run = run_tool(
            'test.py', mini / 'mini_seg.py', trained / 'work/iter_4.pth', '--work-dir',
            folder / 'work', '--out', folder / 'labels', '--show-dir', folder / 'shown',
            cwd=folder,
        )
        ok(run)

    return once(tmp_path_factory, 'seg_tested', test)


def training_miou(work):
    (log,) = work.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [r['mIoU'] for r in records if 'mIoU' in r]


def test_miou(work):
    (file,) = work.glob('*/*.json')
    return json.loads(file.read_text())['mIoU']


test_miou.__test__ = False  # a reader of results


# ---- training ---------------------------------------------------------------------------------


def test_frozen_vit_is_the_file_bit_by_bit(mini, trained):
    vit = tiny_vit().state_dict()
    names = timm_to_checkpoint()
    assert set(vit) - set(names) == {'norm.weight', 'norm.bias'}
    for iteration in (2, 4):
        state = load(trained / f'work/iter_{iteration}.pth')['state_dict']
        of_vit = {k for k in state if k.startswith('backbone.') and '.prompter.' not in k}
        assert of_vit == set(names.values())
        for theirs, ours in names.items():
            assert torch.equal(vit[theirs], state[ours]), ours


def test_prompts_neck_and_heads_learn(trained):
    before, after = (load(trained / f'work/iter_{i}.pth')['state_dict'] for i in (2, 4))
    parts = ('backbone.prompter.', 'neck.', 'decode_head.', 'auxiliary_head.')
    for part in parts:
        names = [k for k in after if k.startswith(part) and k.endswith(('weight', 'prompts'))]
        assert names
        for name in names:
            assert not torch.equal(before[name], after[name]), name
    assert all(torch.isfinite(v).all() for v in after.values())


def test_optimizer_holds_what_is_trained_only(trained):
    checkpoint = load(trained / 'work/iter_4.pth')
    state = checkpoint['state_dict']
    frozen = set(timm_to_checkpoint().values())
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    count = sum(k not in frozen and not k.endswith(buffers) for k in state)
    groups = checkpoint['optimizer']['param_groups']
    assert sum(len(g['params']) for g in groups) == count
    assert len(checkpoint['optimizer']['state']) == count


def test_log_has_the_trainable_table(trained):
    state = load(trained / 'work/iter_4.pth')['state_dict']
    prompter = sum(v.numel() for k, v in state.items() if '.prompter.' in k)
    vit = sum(state[k].numel() for k in timm_to_checkpoint().values())
    rows = {line.split()[0]: line.split()[1:] for line in table((trained / 'out.txt').read_text())}
    assert rows['backbone.prompter'] == [f'{prompter:,}', f'{prompter:,}', '100.00%']
    assert rows['backbone'] == ['0', f'{vit:,}', '0.00%']
    assert {'neck', 'decode_head', 'auxiliary_head', 'all'} <= set(rows)


def table(text):
    lines = text.split('Trainable parameters:\n')[1].splitlines()[1:]
    for line in lines:
        yield line
        if line.startswith('all '):
            return


NOISE = (
    'System environment:', 'Runtime environment:', 'Config:', 'Hooks will be executed',
    'TrainableReportHook', 'paramwise_options', 'SyncBatchNorm', 'prefix is not set',
    'HardDiskBackend', 'FileClient',
)


def test_the_screen_shows_progress_and_results_and_the_log_file_everything(trained):
    screen = (trained / 'out.txt').read_text()
    log = next((trained / 'work').glob('*/*.log')).read_text()
    for line in ('Trainable parameters:', 'Iter(train) [4/4]', 'Iter(val) [3/3]', 'mIoU: ',
                 'ViT weights from', 'Saving checkpoint at 4 iterations'):
        assert line in screen and line in log
    for line in NOISE:
        assert line not in screen
    for line in NOISE[:5]:
        assert line in log
    assert 'Warning' not in (trained / 'err.txt').read_text()


# ---- testing ----------------------------------------------------------------------------------


def test_same_miou_in_training_and_testing(trained, tested):
    (validated,) = training_miou(trained / 'work')
    assert test_miou(tested / 'work') == pytest.approx(validated, abs=1e-9)


def test_out_holds_a_label_image_per_image(mini, tested):
    files = sorted((tested / 'labels').glob('*.png'))
    assert [f.name for f in files] == [f'validation_{i}.png' for i in range(3)]
    for file in files:
        with Image.open(file) as image:
            label = np.array(image)
        assert label.shape == (40, 48) and label.dtype == np.uint8
        # In ADE20K's convention, as the truth: 1 to 150, 0 being no class.
        assert label.min() >= 1 and label.max() <= 150


def test_out_holds_the_predictions_that_were_scored(mini, tested):
    """The IoU of the written labels, counted by hand, is the mIoU reported."""
    inter, union = np.zeros(151), np.zeros(151)
    for i in range(3):
        truth = np.array(
            Image.open(mini / f'ADEChallengeData2016/annotations/validation/validation_{i}.png')
        )
        label = np.array(Image.open(tested / f'labels/validation_{i}.png'))[truth > 0]
        truth = truth[truth > 0]
        for c in range(1, 151):
            inter[c] += ((truth == c) & (label == c)).sum()
            union[c] += ((truth == c) | (label == c)).sum()
    iou = inter[union > 0] / union[union > 0]
    assert test_miou(tested / 'work') == pytest.approx(100 * iou.mean(), abs=0.006)


def test_show_dir_holds_pictures(tested):
    assert len([*(tested / 'shown').rglob('*.png')]) == 3


def test_tta(mini, trained, tmp_path):
    checkpoint = trained / 'work/iter_4.pth'
    run = run_tool(
        'test.py', mini / 'mini_seg.py', checkpoint, '--tta', '--work-dir', 'w', cwd=tmp_path
    )
    ok(run)
    assert 0 <= test_miou(tmp_path / 'w') <= 100


def test_tta_without_a_pipeline_is_refused(mini, trained, tmp_path):
    config = tmp_path / 'no_tta.py'
    config.write_text(f'_base_ = {str(mini / "mini_seg.py")!r}\ntta_model = None\n')
    run = run_tool('test.py', config, trained / 'work/iter_4.pth', '--tta', cwd=tmp_path)
    assert run.code == 2 and '--tta' in run.err and 'Traceback' not in run.err


# ---- options ----------------------------------------------------------------------------------


def test_data_root_pretrained_amp_and_seed_from_the_command_line(mini, tmp_path):
    config = tmp_path / 'nowhere.py'
    config.write_text(
        f'_base_ = {str(mini / "mini_seg.py")!r}\n'
        "model = dict(backbone=dict(pretrained='nowhere.pth'))\n"
        "train_dataloader = dict(dataset=dict(data_root='nowhere'))\n"
        "val_dataloader = dict(dataset=dict(data_root='nowhere'))\n"
    )
    run = run_tool(
        'train.py', config, '--data-root', mini / 'ADEChallengeData2016', '--pretrained',
        mini / 'tiny_vit.pth', '--amp', '--seed', 7, '--work-dir', 'w', '--cfg-options',
        'train_cfg.max_iters=1', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None',
        cwd=tmp_path,
    )
    ok(run)
    (log,) = (tmp_path / 'w').glob('*/*.log')
    text = log.read_text()
    assert 'Bf16OptimWrapper' in text and 'seed=7' in text.replace('seed: 7', 'seed=7')
    state = load(tmp_path / 'w/iter_1.pth')['state_dict']
    assert torch.equal(state['backbone.cls_token'], tiny_vit().state_dict()['cls_token'])
    assert state['decode_head.conv_seg.weight'].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='no C++ compiler')
def test_compile_changes_no_result(mini, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'model.decode_head.dropout_ratio=0']
    weights = []
    for name, faster in (('plain', []), ('faster', ['--compile'])):
        run = run_tool(
            'train.py', mini / 'mini_seg.py', '--work-dir', name, '--seed', 3, *faster, *options,
            cwd=tmp_path,
        )
        ok(run)
        weights.append(load(tmp_path / name / 'iter_2.pth')['state_dict'])
    plain, faster = weights
    for key, value in plain.items():
        torch.testing.assert_close(faster[key], value, rtol=1e-3, atol=1e-3, msg=key)


def test_random_backbone_runs_and_says_so(mini, tmp_path):
    run = run_tool(
        'train.py', mini / 'mini_seg.py', '--random-backbone', '--work-dir', 'w', '--cfg-options',
        'train_cfg.max_iters=1', cwd=tmp_path,
    )
    ok(run)
    assert 'random' in run.out + run.err


@pytest.mark.slow
def test_main_config_by_its_command(mini, tmp_path):
    """The command of the README, in a process that nothing was imported into before."""
    run = run_command(
        sys.executable, CONFIGS.parent / 'tools/train.py', mini / 'mini_seg.py', '--work-dir', 'w',
        '--cfg-options', 'train_cfg.max_iters=1', cwd=tmp_path,
    )
    ok(run)
