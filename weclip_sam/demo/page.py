"""The page itself: Gradio's, local fonts, nothing asked of any other machine."""
from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weclip_sam.demo.answers import Answer, Answerer, page_overlay
from weclip_sam.result import SegmentationResult
from weclip_sam.visualization import label_colors

KEPT_SECONDS = 3600  # uploads and labels that nobody has taken
LOOKED_EVERY = 600
OPACITY = 0.55
_ABOUT = ('Drop a photo. Name what is in it, if you know: then you also see where CLIP looks (CAM) and the label that '
          'a training would learn from. Nothing leaves this machine.')


def import_gradio() -> Any:
    """Gradio, told to be silent before it is imported.

    Raises:
        ValueError: it is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    os.environ.setdefault('HF_HUB_DISABLE_TELEMETRY', '1')
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f'the page needs Gradio, which cannot be imported ({error}); install it by: '
                         'pip install "weclip_sam[demo]"') from None
    return gradio


def build_page(answerer: Answerer, title: str) -> Any:
    """The page as Gradio's ``Blocks``, not yet served.

    Args:
        answerer: the model.
        title: of the page, the checkpoint's name for instance.
    """
    gr = import_gradio()

    def show(answer: Answer | None, opacity: float) -> tuple[Any, Any]:
        """The two overlays at an opacity."""
        if answer is None:
            return None, None
        return (page_overlay(answer.result, answer.result.labels, opacity),
                None if answer.seed is None else page_overlay(answer.result, answer.seed, opacity))

    def download(path: str | None) -> Any:
        """A button that can be pressed where there is something to fetch."""
        return gr.DownloadButton(value=path, interactive=path is not None)

    def nothing(why: str = '') -> tuple[Any, ...]:
        """No answer, and perhaps a word why."""
        return None, None, None, problem(why) if why else '', download(None), download(None), None

    def segment(file: str | None, names: Sequence[str] | None, sam: bool, opacity: float) -> tuple[Any, ...]:
        """Look at the photo that was dropped; what is wrong with it stands where the legend would."""
        if not file:
            return nothing('Drop a photo first.')
        try:
            answer = answerer(file, tuple(names or ()), sam)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return nothing(_said(error, file))
        prediction, seed = show(answer, opacity)
        return (prediction, seed, answer.cam, legend(answer),
                download(_save(answer, answer.result.labels, file, 'prediction')),
                download(None if answer.seed is None else _save(answer, answer.seed, file, 'label')), answer)

    shown: dict[str, Any] = dict(show_label=False, format='png', interactive=False, buttons=['fullscreen', 'download'])
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(LOOKED_EVERY, KEPT_SECONDS)) as page:
        kept = gr.State(None, time_to_live=KEPT_SECONDS)
        gr.HTML(f'<h2>{html.escape(title)}</h2><p>{_ABOUT}</p>')
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                file = gr.File(label='Photo', type='filepath')
                names = gr.Dropdown(list(answerer.classes), multiselect=True, allow_custom_value=True,
                                    label='What is in it (optional; tick or type)')
                sam = gr.Checkbox(False, interactive=answerer.has_sam, label='Sharper outlines with SAM (slower)',
                                  info=None if answerer.has_sam else 'This model names no SAM; see --sam.')
                opacity = gr.Slider(0, 1, OPACITY, step=0.05, label='Opacity')
                button = gr.Button('Segment', variant='primary')
            with gr.Column(scale=3, min_width=320):
                legend_of = gr.HTML()
                with gr.Tabs():
                    with gr.Tab('Prediction'):
                        prediction = gr.Image(**shown)
                    with gr.Tab('Label'):
                        seed = gr.Image(**shown)
                    with gr.Tab('CAM'):
                        cam = gr.Image(**shown)
                with gr.Row():
                    saved = gr.DownloadButton('Download the prediction (PNG)', interactive=False)
                    saved_seed = gr.DownloadButton('Download the label (PNG)', interactive=False)
        inputs, outputs = [file, names, sam, opacity], [prediction, seed, cam, legend_of, saved, saved_seed, kept]
        button.click(segment, inputs, outputs, api_name='segment', concurrency_limit=1)
        file.upload(segment, inputs, outputs, api_visibility='private', concurrency_limit=1)
        file.clear(nothing, None, outputs, api_visibility='private')
        opacity.release(show, [kept, opacity], [prediction, seed], api_visibility='private')
    return page


def serve(page: Any, host: str = '127.0.0.1', port: int | None = None, max_upload: str = '50mb',
          wait: bool = True) -> Any:
    """Serve a page until it is stopped.

    Args:
        page: see :func:`build_page`.
        host: whoever reaches this address can use the page.
        port: None takes the first free one from 7860 on.
        max_upload: largest file, ``'50mb'`` for instance.
        wait: whether to return only when the user stops it; else the page is returned, to be closed by ``close()``.
    """
    gr = import_gradio()
    page.queue(default_concurrency_limit=1, max_size=32)
    theme = gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    page.launch(server_name=host, server_port=port, share=False, max_file_size=max_upload, theme=theme, quiet=True,
                prevent_thread_lock=True, ssr_mode=False, enable_monitoring=False, footer_links=[], inbrowser=False,
                show_error=True)
    if wait:
        print(f'The page is at {page.local_url} (Ctrl+C ends it).', flush=True)
        page.block_thread()
    return page


def legend(answer: Answer) -> str:
    """Which colour is what, and how much of the photo each class takes, as HTML: in the prediction and in the label."""
    rows = [_shares(answer.result)]
    if answer.seed is not None:
        label = _shares(replace(answer.result, labels=answer.seed))
        rows = [f'<b>Prediction</b>&ensp;{rows[0]}', f'<b>Label</b>&ensp;{label}']
    notes = ''.join(f'<p>{html.escape(note)}</p>' for note in answer.notes)
    return ''.join(f'<div>{row}</div>' for row in rows) + notes


def _shares(result: SegmentationResult) -> str:
    colors, parts = label_colors(result.palette, len(result.classes)), []
    for name, share in result.areas().items():
        color = '#' + bytes(colors[result.classes.index(name)]).hex()
        parts.append('<span style="display:inline-flex;align-items:center;margin:0 1em .3em 0">'
                     f'<span style="width:1em;height:1em;border:1px solid #888;background:{color};margin-right:.4em">'
                     f'</span>{html.escape(name)}&nbsp;{share:.0%}</span>')
    return ''.join(parts)


def problem(text: str) -> str:
    """A sentence on what went wrong, as HTML."""
    return ('<p role="alert" style="border-left:4px solid #c0392b;padding:.5em 1em;margin:0">'
            f'{html.escape(text)}</p>')


def _save(answer: Answer, labels: np.ndarray, file: str, what: str) -> str:
    """A label PNG in a folder of its own below Gradio's, which it clears."""
    root = os.environ.get('GRADIO_TEMP_DIR') or str(Path(tempfile.gettempdir()) / 'gradio')
    Path(root).mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=root)) / f'{Path(file).stem}_{what}.png'
    replace(answer.result, labels=labels).save(path)
    return str(path)


def _said(error: BaseException, file: str) -> str:
    """What is wrong, with the file's name alone: where it lies is nobody's business."""
    return str(error).replace(str(Path(file).parent) + os.sep, '')
