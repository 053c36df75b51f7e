"""The page to try a model, asked as a browser asks it, by Gradio's own client."""
import json

import numpy as np
import pytest
from PIL import Image

from weclip_sam.io.images import read_labels

gradio_client = pytest.importorskip('gradio_client', reason='Gradio is not installed: pip install "weclip_sam[demo]"')
pytest.importorskip('gradio', reason='Gradio is not installed: pip install "weclip_sam[demo]"')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def client(served):
    return gradio_client.Client(served[0].local_url, verbose=False)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)).save(path)
    return path


def ask(client, path, names=(), sam=False):
    return client.predict(gradio_client.handle_file(str(path)), list(names), sam, 0.55, api_name='/segment')


def test_a_photo_gives_the_labels_of_the_api(client, served, photo):
    answer = ask(client, photo)
    saved = answer[4]['value'] if isinstance(answer[4], dict) else answer[4]
    assert np.array_equal(read_labels(saved), served[1].plain(photo).labels)


def test_names_give_maps_and_a_label_of_these_names_alone(client, served, photo):
    name = served[1].classes[2]
    answer = ask(client, photo, [name])
    assert all(answer[i] is not None for i in (0, 1, 2))
    saved = answer[5]['value'] if isinstance(answer[5], dict) else answer[5]
    labels = read_labels(saved)
    assert labels.shape == (40, 56) and set(np.unique(labels)) <= {0, 3, 255}


def test_sam_is_asked_where_it_is_ticked(client, served, photo):
    answer = ask(client, photo, sam=True)
    saved = answer[4]['value'] if isinstance(answer[4], dict) else answer[4]
    assert np.array_equal(read_labels(saved), served[1].sharp(photo).labels)


def test_a_name_that_no_class_has_is_told(client, served, photo):
    known = served[1].classes[0]
    answer = ask(client, photo, [known[:-1]])
    assert f'no class &#x27;{known[:-1]}&#x27;' in answer[3] and f'Did you mean &#x27;{known}&#x27;' in answer[3]
    assert answer[0] is None


def test_a_file_that_is_no_image_is_told_by_its_name_alone(client, tmp_path):
    path = tmp_path / 'notes<i>.txt'
    path.write_text('no picture')
    told = ask(client, path)[3]
    assert 'role="alert"' in told and '.txt' in told and '<i>' not in told
    assert str(tmp_path) not in told and 'tmp' not in told.replace('notes', '')


def test_no_photo(client):
    told = client.predict(None, [], False, 0.5, api_name='/segment')[3]
    assert 'Drop a photo first' in told


def test_nothing_else_of_this_machine_can_be_read(served):
    import httpx
    url = served[0].local_url
    assert httpx.get(f'{url}gradio_api/file=/etc/hostname').status_code == 403
    assert '127.0.0.1' in url
    # Every address that the page itself names is this one, or a name space of XML.
    settings = json.loads(httpx.get(f'{url}config').text)
    assert settings.get('analytics_enabled') is False and not settings.get('is_space')
