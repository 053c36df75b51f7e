"""A page that is served, for its client and for a browser."""
import pytest


@pytest.fixture(scope='module')
def served(trained_run, tmp_path_factory):
    """The page of a trained model on a free port of this machine, and the model behind it."""
    pytest.importorskip('gradio', reason='Gradio is not installed: pip install "weclip_sam[demo]"')
    from weclip_sam.demo.answers import Answerer
    from weclip_sam.demo.page import build_page, serve
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(tmp_path_factory.mktemp('uploads')))
        answerer = Answerer(str(trained_run / 'iter_2.pth'), sam='tiny', device='cpu')
        page = serve(build_page(answerer, 'a <b>bold</b> model'), wait=False)
        yield page, answerer
        page.close()
