"""A folder of labels that is hard to export."""
import export_scene
import pytest

from weclip_sam.offline.results import open_labels


@pytest.fixture
def hard_root(tmp_path):
    return export_scene.make_folder(tmp_path)


@pytest.fixture
def hard(hard_root):
    """It, opened."""
    return open_labels(hard_root)


@pytest.fixture
def labelled(tmp_path):
    """A function: a folder of these label maps by name, opened."""
    def make(maps, **options):
        return open_labels(export_scene.make_folder(tmp_path, labelled=maps, **options))
    return make
