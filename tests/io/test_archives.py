"""Files of a folder and of a zip, read alike and in place."""
import zipfile

import pytest

from weclip_sam.io.archives import Files

CONTENT = {'a.png': b'1', 'in/b.PNG': b'2', 'in/ä.png': b'3', '__MACOSX/a.png': b'x', '.hidden.png': b'x',
           'c.jpg': b'x'}


def is_png(name):
    return name.lower().endswith('.png')


@pytest.fixture(params=['folder', 'zip', 'zip of Windows'])
def files(request, tmp_path):
    if request.param == 'folder':
        for name, content in CONTENT.items():
            (tmp_path / 'f' / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'f' / name).write_bytes(content)
        return Files(tmp_path / 'f', is_png)
    with zipfile.ZipFile(tmp_path / 'f', 'w') as archive:
        for name, content in CONTENT.items():
            info = zipfile.ZipInfo('x')
            info.filename = name.replace('/', '\\') if 'Windows' in request.param else name
            archive.writestr(info, content)
    return Files(tmp_path / 'f', is_png)


def test_wanted_files_without_clutter(files):
    assert files.names == ('a.png', 'in/b.PNG', 'in/ä.png')
    assert [files.read(name).read() for name in files.names] == [b'1', b'2', b'3']
    assert files.where('a.png') == f'{files.path}/a.png'


def test_neither_folder_nor_zip(tmp_path):
    (tmp_path / 'x').write_bytes(b'no archive')
    with pytest.raises(ValueError, match='neither a folder nor a readable zip archive'):
        Files(tmp_path / 'x', is_png)
    with pytest.raises(FileNotFoundError, match='no such file or folder'):
        Files(tmp_path / 'nowhere', is_png)


def test_a_damaged_member(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        archive.writestr('a.png', b'content')
    data = (tmp_path / 'x.zip').read_bytes()
    (tmp_path / 'x.zip').write_bytes(data.replace(b'content', b'CONTENT'))
    with pytest.raises(ValueError, match=r'x\.zip/a\.png: cannot be unpacked'):
        Files(tmp_path / 'x.zip', is_png).read('a.png')
