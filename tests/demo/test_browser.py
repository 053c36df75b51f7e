"""The page in a real browser: it loads, a photo is dropped, the result appears, a bad file gives a message."""
import shutil

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(CHROMIUM is None, reason='no Chromium on this machine (Debian: apt install chromium)')]
FLAGS = ('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync')


@pytest.fixture
def browser():
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install playwright')
    with api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


def test_a_visit(browser, served, tmp_path, request):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / 'photo.png')
    (tmp_path / 'notes.png').write_text('no picture')
    asked = []
    page = browser.new_page(viewport=dict(width=1280, height=900))
    page.on('request', lambda one: asked.append(one.url))
    page.goto(served[0].local_url)
    page.wait_for_selector('text=Drop a photo')
    page.set_input_files('input[type=file]', str(tmp_path / 'photo.png'))
    page.wait_for_selector('div[role=tabpanel] img', timeout=60_000)
    assert page.locator('text=background').count() or page.locator('text=%').count()
    page.get_by_role('combobox').click()
    page.get_by_role('option').nth(2).click()
    page.keyboard.press('Escape')
    page.get_by_role('button', name='Segment').click()
    page.get_by_role('tab', name='CAM').click()
    page.wait_for_selector('div[role=tabpanel]:visible img', timeout=60_000)
    shot = request.config.getoption('--screenshots')
    if shot:
        page.screenshot(path=f'{shot}/demo.png', full_page=True)
    page.get_by_label('Remove').or_(page.get_by_label('Clear')).first.click()
    page.set_input_files('input[type=file]', str(tmp_path / 'notes.png'))
    page.get_by_role('alert').filter(has_text='notes.png').wait_for(timeout=60_000)
    if shot:
        page.screenshot(path=f'{shot}/demo_bad_file.png', full_page=True)
    strange = {url.split('/')[2] for url in asked if url.startswith('http')} - {served[0].local_url.split('/')[2]}
    assert not strange, f'the page asks other machines: {strange}'
