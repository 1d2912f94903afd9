"""Web app for tuned models: drop an image, see class or mask and attention, block by block.

python -m lspt_mm demo_app CONFIG CHECKPOINT [CONFIG CHECKPOINT ...]
python -m lspt_mm demo_app --run lspt=work_dirs/demo/lspt --run frozen=work_dirs/demo/frozen

Models with the same frozen ViT share it in memory and are switched without loading anything. The
page is served to this machine alone unless --host is given, needs no connection to the internet,
and is never shared to it. Requires Gradio: pip install 'lspt_mm[app]'.
"""

from __future__ import annotations

import argparse
import html
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.installed import require
from lspt_mm.utils.overlay import enlarged, mask_over
from projects.demo_app.image_io import Limits, Upload, check_limits, read_image

if TYPE_CHECKING:
    from projects.demo_app.models import ServedModels
    from projects.demo_app.results import ImageResult

#: Choice of no second model.
ALONE = 'nothing'
MEAN = 'mean of all heads'
ASKERS = {'class token': 'cls', 'prompts': 'prompts'}
#: Fonts of the user's system.
FONTS = ['system-ui', 'sans-serif']
#: Classes of a mask that are listed; the others share a row.
LEGEND_ROWS = 12
#: Requests that may wait for the model; sessions that are kept, and for how long.
WAITING, SESSIONS, SESSION_SECONDS = 32, 100, 1800
PER_CENT = (
    '<small>Per cent: how much of the attention is on patches; the rest is on the class token and '
    'the prompts. Brightest: the most in this picture.</small>'
)
HINT = 'Drop an image above, or click there to choose one.'

logger = logging.getLogger('lspt_mm.demo_app')

CSS = """
.lspt-status {padding: .6em .8em; border-radius: 8px; border-left: 5px solid #3a7;
  background: var(--background-fill-secondary); overflow-wrap: anywhere}
.lspt-status.problem {border-color: #c33; background: #fdecea; color: #611a15; font-weight: 600}
.lspt-title {font-size: 1.1em; margin: .2em 0}
.lspt-title span {color: var(--body-text-color-subdued); font-size: .85em}
table.lspt-rows {width: 100%; border-collapse: collapse; font-size: .95em}
table.lspt-rows, table.lspt-rows tr, table.lspt-rows td {border: none !important}
table.lspt-rows td {padding: .15em .4em !important; vertical-align: middle}
table.lspt-rows td.bar {width: 45%}
table.lspt-rows td.number {text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap}
.lspt-bar {height: .75em; border-radius: 3px; min-width: 2px}
.lspt-chip {display: inline-block; width: 1em; height: 1em; border-radius: 3px;
  vertical-align: -.12em; border: 1px solid #0004; margin-right: .4em}
#maps-one .grid-wrap, #maps-two .grid-wrap {max-height: none; min-height: 0; overflow: visible}
#maps-one .caption-label, #maps-two .caption-label {max-width: 100%;
  font-size: 11px; padding: 1px 4px}
"""


class Shown(NamedTuple):
    """Content of a session's page: the file, its image, and one or two results."""

    path: str
    upload: Upload
    results: List[ImageResult]


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Options of the app."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'models', nargs='*', metavar='CONFIG CHECKPOINT',
        help='configs and checkpoints (full or prompt-only), in turn',
    )
    parser.add_argument(
        '--run', action='append', default=[], metavar='NAME=WORK_DIR',
        help='a run: config and last checkpoint of its work dir; may be given several times',
    )
    parser.add_argument('--pretrained', help="file of the ViT's weights, instead of the configs'")
    parser.add_argument('--device', help='such as cpu or cuda:0; default: a GPU if there is one')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (%(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='port to listen on (%(default)s)')
    limits = Limits()
    parser.add_argument(
        '--max-pixels', type=int, default=limits.max_pixels,
        help='uploads of more pixels are refused (%(default)s)',
    )
    parser.add_argument(
        '--work-side', type=int, default=limits.work_side,
        help='larger images are reduced to this long side (%(default)s)',
    )
    parser.add_argument(
        '--max-megabytes', type=int, default=50, help='larger files are refused (%(default)s)'
    )
    return parser.parse_args(argv)


class Demo:
    """Logic of the page, without the page: from inputs to the content of its components."""

    def __init__(self, models: ServedModels, limits: Limits):
        self.models = models
        self.limits = limits

    def predict(
        self, path: Optional[str], first: str, second: str, shown: Optional[Shown]
    ) -> Tuple[str, Optional[Shown]]:
        """Run the chosen models on the file; the status, and what is shown (None: nothing)."""
        import torch

        if not path:
            return status(HINT), None
        try:
            known = {} if shown is None or shown.path != path else {
                result.model: result for result in shown.results
            }
            upload = shown.upload if known else read_image(path, self.limits)
            results = []
            for name in dict.fromkeys([first, second]):
                if name != ALONE:
                    results.append(known.get(name) or self.models.predict(name, upload.image))
            return status(self._message(upload, results)), Shown(path, upload, results)
        except InputError as error:
            logger.info('refused: %s', error)
            return status(str(error), problem=True), None
        except (MemoryError, torch.OutOfMemoryError):
            logger.warning('out of memory for %s', path)
            message = 'There is not enough memory for this image; send a smaller one.'
            return status(message, problem=True), None
        except Exception:
            traceback.print_exc()
            message = 'Something went wrong in the app itself; see its log.'
            return status(message, problem=True), None

    @staticmethod
    def _message(upload: Upload, results: List[ImageResult]) -> str:
        width, height = upload.size
        notes = ''.join(f'; {note}' for note in upload.notes)
        by = ' and '.join(result.model for result in results)
        return f'{width} x {height} pixels{notes}. Predicted by {by}.'

    def panel(self, shown: Optional[Shown], index: int, opacity: float) -> tuple:
        """Title, picture and rows of the first (0) or second (1) result."""
        if shown is None or index >= len(shown.results):
            return '', None, ''
        result = shown.results[index]
        mask = result.description.picture
        picture = (enlarged(result.attention.seen) if mask is None
                   else mask_over(shown.upload.image, mask, opacity))
        return title_of(result), picture, class_rows(result)

    def attention(self, shown: Optional[Shown], index: int, asker: str, head: str) -> tuple:
        """Pictures of all blocks, each with its caption, and a line about them."""
        from projects.demo_app.pictures import attention_over, map_of

        if shown is None or index >= len(shown.results):
            return [], ''
        result = shown.results[index]
        number = None if head == MEAN else int(head.split()[-1]) - 1
        if number is not None and number >= self.models.heads(result.model):
            return [], f'{html.escape(result.model)} has {self.models.heads(result.model)} heads.'
        pictures = []
        for block in result.attention.blocks:
            grid = map_of(block, ASKERS[asker], number)
            if grid is not None:
                caption = f'block {block.number}: {grid.sum():.0%}'
                pictures.append((attention_over(result.attention, grid), caption))
        if not pictures:
            return [], f'{html.escape(result.model)} has no {asker}.'
        text = f'Attention of the {asker} of <b>{html.escape(result.model)}</b>. '
        return pictures, text + PER_CENT


def status(text: str, problem: bool = False) -> str:
    """A line for the status box."""
    kind, role = ('lspt-status problem', 'alert') if problem else ('lspt-status', 'status')
    return f'<div class="{kind}" role="{role}">{html.escape(text)}</div>'


def title_of(result: ImageResult) -> str:
    """Name of a model and its times."""
    prediction, attention = result.seconds
    times = f'prediction {prediction:.2f} s, attention {attention:.2f} s'
    name = html.escape(result.model)
    return f'<div class="lspt-title"><b>{name}</b><br><span>{times}</span></div>'


def class_rows(result: ImageResult) -> str:
    """Classes with their shares: of a mask its colours and areas, or else probabilities."""
    classes = result.description.classes
    rows = [row(one.name, one.share, one.colour) for one in classes]
    rest = classes[LEGEND_ROWS:]
    if rest:
        share = sum(one.share for one in rest)
        rows = [*rows[:LEGEND_ROWS], row(f'{len(rest)} more classes', share, (136, 136, 136))]
    return f'<table class="lspt-rows">{"".join(rows)}</table>'


def row(name: str, share: float, rgb: Optional[Tuple[int, int, int]]) -> str:
    """One row of a table of shares."""
    colour = 'var(--color-accent)' if rgb is None else 'rgb({}, {}, {})'.format(*rgb)
    chip = '' if rgb is None else f'<span class="lspt-chip" style="background: {colour}"></span>'
    return (
        f'<tr><td>{chip}{html.escape(str(name))}</td><td class="number">{share:.1%}</td>'
        f'<td class="bar"><div class="lspt-bar" style="width: {share:.1%}; background: {colour}">'
        '</div></td></tr>'
    )


def build_page(demo: Demo):
    """The page, a ``gradio.Blocks``."""
    import gradio as gr

    models = demo.models
    names = models.names
    heads = max(models.heads(name) for name in names)
    held, apart = (megabytes(size) for size in models.bytes_held())
    with gr.Blocks(title='lspt_mm', analytics_enabled=False, delete_cache=(600, 3600)) as page:
        shown = gr.State(None, time_to_live=SESSION_SECONDS)
        gr.Markdown(
            f'### lspt_mm\n{len(names)} model{"s" * (len(names) > 1)} on {models.device}, '
            f'{held} of weights in memory (each on its own: {apart}).'
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.Image(
                    label='Image', type='filepath', sources=['upload', 'clipboard'], height=260,
                    elem_id='upload', buttons=[],
                )
                # Gradio's own opens the file, and its errors for bad ones are no help to a user.
                upload.preprocess = lambda payload: payload and payload.path
                first = gr.Dropdown(names, value=names[0], label='Model', elem_id='first')
                second = gr.Dropdown(
                    [ALONE, *names], value=ALONE, label='Second model', elem_id='second',
                    visible=len(names) > 1,
                )
                line = gr.HTML(status(HINT), elem_id='status')
                opacity = gr.Slider(
                    0, 1, value=0.6, step=0.05, label='Mask over the image', elem_id='opacity',
                    visible=any(models.task(name).dense for name in names),
                )
            with gr.Column(scale=3, min_width=480), gr.Row():
                panels = [_panel(gr, which) for which in ('one', 'two')]
        gr.Markdown('### Attention, block by block')
        with gr.Row():
            asker = gr.Radio(
                list(ASKERS), value='class token', label='Attention of', elem_id='asker'
            )
            head = gr.Dropdown(
                [MEAN, *(f'head {n}' for n in range(1, heads + 1))], value=MEAN, label='Head',
                elem_id='head',
            )
        with gr.Row():
            galleries = [_gallery(gr, which) for which in ('one', 'two')]
        results = [part for panel in panels for part in panel]
        maps = [part for gallery in galleries for part in gallery]

        def draw_results(shown, opacity):
            out = []
            for index in (0, 1):
                title, picture, rows = demo.panel(shown, index, opacity)
                out += [gr.update(visible=bool(title)), title, gr.update(value=picture), rows]
            return out

        def draw_attention(shown, asker, head):
            out = []
            for index in (0, 1):
                pictures, text = demo.attention(shown, index, asker, head)
                out += [gr.update(visible=bool(text)), text]
                out.append(gr.update(value=pictures, visible=bool(pictures)))
            return out

        def predict(path, first, second, shown, opacity, asker, head):
            message, shown = demo.predict(path, first, second, shown)
            return [
                message, shown, *draw_results(shown, opacity), *draw_attention(shown, asker, head)
            ]

        gr.on(
            [upload.change, first.change, second.change],
            predict,
            [upload, first, second, shown, opacity, asker, head],
            [line, shown, *results, *maps],
            concurrency_limit=1,
            concurrency_id='model',
            trigger_mode='always_last',
            api_visibility='private',
            show_progress_on=[line],
        )
        quick = {'show_progress': 'hidden', 'api_visibility': 'private', 'concurrency_limit': 4}
        opacity.release(draw_results, [shown, opacity], results, **quick)
        gr.on([asker.change, head.change], draw_attention, [shown, asker, head], maps, **quick)
    return page


def megabytes(size: int) -> str:
    """Bytes as text, in 10^6, to about three digits."""
    return f'{size / 1e6:,.{0 if size > 1e8 else 1}f} MB'


def _panel(gr, which: str) -> tuple:
    with gr.Column(min_width=240, visible=False) as column:
        title = gr.HTML(elem_id=f'title-{which}')
        picture = gr.Image(
            interactive=False, show_label=False, format='png', elem_id=f'picture-{which}',
            buttons=['download', 'fullscreen'],
        )
        rows = gr.HTML(elem_id=f'rows-{which}')
    return column, title, picture, rows


def _gallery(gr, which: str) -> tuple:
    with gr.Column(min_width=320, visible=False) as column:
        caption = gr.HTML(elem_id=f'caption-{which}')
        gallery = gr.Gallery(
            interactive=False, show_label=False, columns=4, format='jpeg', height='auto',
            object_fit='contain', elem_id=f'maps-{which}', buttons=['fullscreen'],
        )
    return column, caption, gallery


def serve(page, args: argparse.Namespace) -> None:
    """Serve the page until the process is stopped."""
    import gradio

    page.queue(max_size=WAITING)
    try:
        page.launch(
            server_name=args.host, server_port=args.port, share=False, quiet=True,
            inbrowser=False, prevent_thread_lock=True, ssr_mode=False, pwa=False, mcp_server=False,
            enable_monitoring=False, run_history=False, footer_links=[], css=CSS,
            theme=gradio.themes.Default(font=FONTS, font_mono=['monospace']),
            max_file_size=f'{args.max_megabytes}mb', state_session_capacity=SESSIONS,
        )
    except OSError as error:
        raise InputError(
            f'--host {args.host} --port {args.port}: cannot listen there ({error}); is another '
            'app running there? Choose another port: --port NUMBER'
        ) from error
    logger.info('ready: %s (Ctrl-C ends it)', page.local_url)
    page.block_thread()


def prepare_gradio() -> None:
    """Check that Gradio is installed, and keep it from contacting the internet.

    Raises:
        InputError: If it is not installed.
    """
    require('gradio')
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')
    # Gradio checks that its own page responds; through a proxy that would fail.
    for name in ('NO_PROXY', 'no_proxy'):
        known = os.environ.get(name, '')
        os.environ[name] = f'{known},127.0.0.1,localhost'.lstrip(',')


def main() -> None:
    """Load the models and serve the page."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        logging.basicConfig(
            level=logging.WARNING, stream=sys.stdout, format='%(asctime)s %(message)s'
        )
        logging.getLogger('lspt_mm').setLevel(logging.INFO)
        prepare_gradio()
        from projects.demo_app.models import ServedModels
        from projects.demo_app.sources import named_sources

        limits = Limits(max_pixels=args.max_pixels, work_side=args.work_side)
        check_limits(limits)
        sources = named_sources(args.models, args.run)
        models = ServedModels(sources, args.device, args.pretrained)
        serve(build_page(Demo(models, limits)), args)


if __name__ == '__main__':
    main()
